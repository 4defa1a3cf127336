"""The export: each network traced, checked, converted, checked again; the manifest last."""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx

from pixrt._version import __version__
from pixrt.bundles.engine_files import file_of_weights
from pixrt.bundles.manifest import (
    INT8,
    MANIFEST_NAME,
    SCHEMA,
    Component,
    ComponentSpec,
    ExportCheck,
    FileSpec,
    LatentSpec,
    Manifest,
    Precision,
    Source,
    TensorSpec,
    TokenizerSpec,
)
from pixrt.bundles.store import read_manifest, sha256_file
from pixrt.errors import CheckpointError, OptionError, PixrtError
from pixrt.files import atomic_write
from pixrt.lora.embeddings import Embedding
from pixrt.lora.merging import LoraSet, load_loras
from pixrt.lora.weights import WEIGHTS_NAME, WeightPlace, to_json
from pixrt.maths.solvers import build_table
from pixrt_export.attention import fuse_attention
from pixrt_export.check import check, references, tensor_table
from pixrt_export.checkpoint import Checkpoint, raise_if_out_of_memory
from pixrt_export.compact import compact
from pixrt_export.components import Traceable, scaling_of, traceables
from pixrt_export.deep_cache import DeepCache
from pixrt_export.defaults import said_by
from pixrt_export.embeddings import add_rows, added_tokens, read_embeddings
from pixrt_export.fused_step import check_step_graph, write_step_graph
from pixrt_export.layers import drop_source, find_weights, follow_weights, layer_shapes, merge_into
from pixrt_export.opening import open_checkpoint
from pixrt_export.options import ExportOptions
from pixrt_export.output import bundle_folder
from pixrt_export.precision import to_fp16
from pixrt_export.preview import fit_preview
from pixrt_export.quantisation.calibration import CalibrationSet, calibration_set
from pixrt_export.quantisation.quantiser import require_quantiser
from pixrt_export.quantisation.unet import quantise_unet
from pixrt_export.quantisation.weights import to_int8_weights
from pixrt_export.single_file import is_file, unpacked
from pixrt_export.tokenizer import check_tokenizer, write_files
from pixrt_export.tracing import files_of, trace
from pixrt_export.weights import to_fp16_weights

Progress = Callable[[str], None]
_TOOLS = ("torch", "diffusers", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime")
_DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how long each network took in seconds; an FP32 decoder that is kept is in its FP16's.

    `notes` are what a user should know of the checkpoint, such as weights in it that nothing uses.
    """

    folder: Path
    manifest: Manifest
    seconds: dict[Component, float]
    notes: tuple[str, ...]


def run_export(options: ExportOptions, on_progress: Progress) -> ExportReport:
    """Export a checkpoint; see `pixrt_export.export_checkpoint`."""
    with _opened(options) as checkpoint:
        return _export(checkpoint, options, on_progress)


@contextmanager
def _opened(options: ExportOptions) -> Iterator[Checkpoint]:
    """The checkpoint: a folder, one of the hub, or a file that is unpacked for as long as this lasts."""
    how: dict[str, Any] = {"allow_pickle": options.allow_pickle, "vae": options.vae}
    file = Path(options.checkpoint)
    if not is_file(file):
        if options.ema or options.prediction:
            name = "ema" if options.ema else "prediction"
            problem = f"{name} is given, and {options.checkpoint} is no single file"
            raise OptionError(problem, remedy="Leave it out: a folder's configs say it", option=name)
        yield open_checkpoint(options.checkpoint, **how, without_source=options.without_source)
        return
    notes: list[str] = []
    what: dict[str, Any] = {"ema": options.ema, "prediction": options.prediction, "notes": notes}
    with unpacked(file, allow_pickle=options.allow_pickle, **what) as folder:
        opened = open_checkpoint(str(folder), **how, without_source=options.without_source)
        kept = f"ema {options.ema}, {opened.scheduler['prediction_type']}"
        yield replace(opened, id=file.stem, origin=(file, kept), notes=notes)


def _export(checkpoint: Checkpoint, options: ExportOptions, on_progress: Progress) -> ExportReport:
    scaling = scaling_of(checkpoint, options.source_scaling_factor)
    said = said_by(options, checkpoint.scheduler)
    instructions = checkpoint.instructions
    calibration = _calibration_set(checkpoint, options)
    # The default one, before hours are spent.
    build_table(said.defaults.scheduler, checkpoint.scheduler, said.defaults.steps)
    cache = DeepCache(options.cache_branch_id, checkpoint.unet) if options.deep_cache else None
    loras = load_loras(options.loras, layer_shapes(checkpoint), checkpoint.id)
    for note in loras.notes:
        on_progress(note)
    embeddings = read_embeddings(options.embeddings, checkpoint, allow_pickle=options.allow_pickle)
    with bundle_folder(options.output, overwrite=options.overwrite) as folder:
        on_progress("comparing the tokenizer")
        tokenizer = write_tokenizer(checkpoint, folder)
        rows = int(checkpoint.text_encoder.get("vocab_size", 49408))
        tokenizer = replace(tokenizer, added=(*tokenizer.added, *added_tokens(embeddings, rows)))
        on_progress("hashing the checkpoint")
        source = _source(checkpoint, loras, embeddings)
        components: dict[str, ComponentSpec] = {}
        table: dict[str, dict[str, WeightPlace]] = {}
        seconds: dict[Component, float] = {}
        for load in traceables(checkpoint, scaling):
            started = time.perf_counter()
            component, specs, places = _export_component(load, folder, loras, embeddings, options, cache, on_progress)
            components |= specs
            if places and not (component is Component.UNET and options.precision in INT8):
                table[component] = places
            seconds[component] = time.perf_counter() - started
        if options.fused_step:
            on_progress(f"{Component.UNET_STEP}: writing and checking")
            started = time.perf_counter()
            _add_fused_step(folder, components, table)
            seconds[Component.UNET_STEP] = time.perf_counter() - started
        if cache is not None:
            on_progress(f"{Component.UNET_SHALLOW}: writing and checking")
            _add_shallow(folder, components, table, cache, options.precision)
        (folder / WEIGHTS_NAME).write_text(to_json(table), encoding="utf-8")
        encoder = folder / components[Component.VAE_ENCODER].file
        manifest = Manifest(
            schema=SCHEMA,
            name=options.name or options.output.name,
            notice=said.notice,
            source=source,
            family="stable-diffusion",
            precision="fp32" if calibration else options.precision,
            prediction=checkpoint.prediction,
            unet_in_channels=checkpoint.in_channels,
            latents=LatentSpec(checkpoint.latent_channels, checkpoint.vae_scale, scaling.factor),
            size_multiple=checkpoint.vae_scale,
            native_resolution=checkpoint.sample_size * checkpoint.vae_scale,
            scheduler=checkpoint.scheduler,
            tokenizers=(tokenizer,),
            defaults=said.defaults,
            preview=fit_preview(encoder, checkpoint.vae_scale, scaling.factor),
            components=components,
            files=_files(folder),
            tools={"pixrt": __version__} | {name: metadata.version(name) for name in _TOOLS},
            examples=said.examples,
            instructions=instructions,
            deep_cache=None if cache is None else cache.spec,
        )
        _write_manifest(manifest, folder)
        if calibration is not None:
            started = time.perf_counter()
            _write_manifest(_quantise(folder, manifest, calibration, options, on_progress), folder)
            seconds[Component.UNET] += time.perf_counter() - started
            manifest = read_manifest(folder / MANIFEST_NAME)
    return ExportReport(options.output, manifest, seconds, tuple(dict.fromkeys(checkpoint.notes)))


def _files(folder: Path) -> dict[str, FileSpec]:
    paths = (path for path in sorted(folder.iterdir()) if path.name != MANIFEST_NAME)
    return {path.name: FileSpec(path.stat().st_size, sha256_file(path)) for path in paths}


def _write_manifest(manifest: Manifest, folder: Path) -> None:
    with atomic_write(folder / MANIFEST_NAME) as file:
        file.write(manifest.to_json().encode())


def _calibration_set(checkpoint: Checkpoint, options: ExportOptions) -> CalibrationSet | None:
    """What an export to INT8 is calibrated on, None for others. Raises DataError, OptionError, PackageMissing."""
    if options.precision != "int8":
        return None
    require_quantiser()
    if checkpoint.in_channels not in (checkpoint.latent_channels, 2 * checkpoint.latent_channels):
        problem = "the checkpoint is for inpainting, and INT8 is calibrated on edits and on pictures made of texts only"
        raise OptionError(problem, remedy="Choose --precision int8-weights", option="precision")
    edits = checkpoint.in_channels == 2 * checkpoint.latent_channels
    count, seed = options.calibration_edits, options.calibration_seed
    return calibration_set(options.calibrate, checkpoint.instructions, count, seed, is_edit=edits)


def _quantise(
    folder: Path, manifest: Manifest, given: CalibrationSet, options: ExportOptions, on_progress: Progress
) -> Manifest:
    """Put an INT8 UNet in the place of an FP32 bundle's; its manifest."""
    path, before = folder / f"{Component.UNET}.onnx", files_of(folder / manifest.component(Component.UNET).file)
    with _naming(Component.UNET):
        spec, result = quantise_unet(folder, manifest, given, options, path, on_progress)
    for file in before:
        file.unlink()
    components = {**manifest.components, Component.UNET.value: _spec(path, tuple(spec.kept), result)}
    tools = {**manifest.tools, "nncf": metadata.version("nncf")}
    changed: dict[str, Any] = {"components": components, "files": _files(folder), "tools": tools}
    return replace(manifest, precision=options.precision, quantised=(spec,), **changed)


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> TokenizerSpec:
    """Write the tokenizer's files, and compare it with the checkpoint's own. Raises CheckpointError."""
    spec, own = checkpoint.tokenizer(), checkpoint.folder_of("tokenizer")
    write_files(own, folder)
    check_tokenizer(own, folder, spec, int(checkpoint.text_encoder.get("vocab_size", 49408)))
    return spec


def _add_fused_step(
    folder: Path, components: dict[str, ComponentSpec], table: dict[str, dict[str, WeightPlace]]
) -> None:
    """Write the fused step around the UNet, and where its weights are."""
    unet, path = components[Component.UNET], folder / f"{Component.UNET_STEP}.onnx"
    write_step_graph(folder / unet.file, path)
    result = check_step_graph(folder / unet.file, path)
    components[Component.UNET_STEP] = _spec(path, unet.kept_fp32, result)
    table[Component.UNET_STEP] = follow_weights(table[Component.UNET], folder / unet.file, path)


def _add_shallow(
    folder: Path,
    components: dict[str, ComponentSpec],
    table: dict[str, dict[str, WeightPlace]],
    cache: DeepCache,
    precision: Precision,
) -> None:
    """Write the shallow network beside the UNet, and where its weights are."""
    unet, path = components[Component.UNET], folder / f"{Component.UNET_SHALLOW}.onnx"
    result = cache.write(folder / unet.file, path, precision)
    nodes = {node.name for node in onnx.load(str(path), load_external_data=False).graph.node}
    components[Component.UNET_SHALLOW] = _spec(path, tuple(name for name in unet.kept_fp32 if name in nodes), result)
    table[Component.UNET_SHALLOW] = follow_weights(table[Component.UNET], folder / unet.file, path, partly=True)


def _source(checkpoint: Checkpoint, loras: LoraSet, embeddings: Sequence[Embedding]) -> Source:
    """The checkpoint's identity; with LoRAs or embeddings in it, it is another."""
    sha256 = checkpoint.sha256()
    if loras.specs or embeddings:
        given = [*(lora.identity for lora in loras.specs), *(each.spec.identity for each in embeddings)]
        sha256 = hashlib.sha256("\n".join([sha256, *given]).encode()).hexdigest()
    vae, specs = checkpoint.other_vae.id if checkpoint.other_vae else "", tuple(each.spec for each in embeddings)
    return Source(checkpoint.id, sha256, loras.specs, vae, specs)


def _export_component(
    load: Callable[[], Traceable],
    folder: Path,
    loras: LoraSet,
    embeddings: Sequence[Embedding],
    options: ExportOptions,
    cache: DeepCache | None,
    on_progress: Progress,
) -> tuple[Component, dict[str, ComponentSpec], dict[str, WeightPlace]]:
    """Merge LoRAs, cut, trace, check, convert and check again one network; only one is in memory at a time.

    Of an FP16 decoder the FP32 one is kept beside it. The last of the result is where the weights are that a LoRA can
    change.
    """
    network = load()
    component = network.component
    precision = _precision_of(component, options.precision)
    second = component is Component.VAE_DECODER and precision == "fp16"
    plain = precision == "fp32" and not (component is Component.UNET and options.precision == "int8")
    name = Component.VAE_DECODER_FP32 if second else f"{component}{'' if plain else '.fp32'}"
    traced = folder / f"{name}.onnx"
    specs: dict[str, ComponentSpec] = {}
    with _naming(component):
        merge_into(network.module, loras.factors.get(component, {}))
        if component is Component.TEXT_ENCODER:
            add_rows(network.module, embeddings)
        if options.without_source and component is Component.UNET:  # after LoRAs, which are made for the whole layer
            drop_source(network.module)
        on_progress(f"{component}: tracing")
        trace(network, traced)
        if component is Component.UNET and options.target == "ort-cuda":
            fused, left = fuse_attention(traced)
            on_progress(f"{component}: {fused} of {fused + left} attentions as one node each")
        on_progress(f"{component}: checking against PyTorch")
        expected = references(network)
        if cache is not None and component is Component.UNET:
            cache.cut(network.module, traced, expected)
        is_listed = component in (Component.UNET, Component.TEXT_ENCODER)
        places = find_weights(network.module, traced) if is_listed else {}
        if options.compact:
            stored = compact(traced, network.weights, folder / file_of_weights(component))
            places = {name: stored[name] for name in places}
        del network
        gc.collect()
        result = check(component, traced, expected, "fp32")
        path = traced
        kept: tuple[str, ...] = ()
        if precision != "fp32":
            on_progress(f"{component}: converting to {precision}")
            path = folder / f"{component}.onnx"
            if precision == "fp16":
                kept = to_fp16(traced, path, [reference.inputs for reference in expected])
            elif precision == "fp16-weights":
                kept = to_fp16_weights(traced, path)
            else:
                to_int8_weights(traced, path)
            if precision not in INT8:  # in those no LoRA can be merged
                places = follow_weights(places, traced, path)
            if second:
                specs[Component.VAE_DECODER_FP32] = _spec(traced, (), result)
            else:
                for file in files_of(traced):
                    file.unlink()
            on_progress(f"{component}: checking {precision} against PyTorch")
            result = check(component, path, expected, precision)
        specs[component] = _spec(path, kept, result)
    return component, specs, places


def _precision_of(component: Component, precision: Precision) -> Precision:
    """In which a network is traced and converted: only the UNet is INT8, and calibrated when the others are there."""
    if precision in INT8 and (component is not Component.UNET or precision == "int8"):
        return "fp32"
    return precision


def _spec(path: Path, kept: tuple[str, ...], result: ExportCheck) -> ComponentSpec:
    inputs, outputs = (tuple(map(_tensor, values)) for values in tensor_table(path))
    return ComponentSpec(path.name, inputs, outputs, kept, result)


@contextmanager
def _naming(component: Component) -> Iterator[None]:
    """Give the errors of PyTorch, optimum and ONNX Runtime, of many unrelated types, the name of the component."""
    try:
        yield
    except (PixrtError, OSError):
        raise
    except Exception as error:
        raise_if_out_of_memory(error)
        raise CheckpointError(
            f"the {component} cannot be exported: {str(error).strip()[:300]}",
            remedy="Use an architecture of Stable Diffusion 1.x or 2.x",
        ) from error


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return TensorSpec(value.name, _DTYPES[tensor.elem_type], shape)  # type: ignore[arg-type]
