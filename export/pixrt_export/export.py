"""The export: each network traced, converted, checked, written; the manifest last; then the folder takes its name."""

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import onnx
import torch

from pixrt._version import __version__
from pixrt.errors import CheckpointError, OutputError
from pixrt.files import atomic_write
from pixrt.schedulers import scheduler_name
from pixrt.spec import (
    MANIFEST_NAME,
    SCHEMA,
    Component,
    ComponentSpec,
    Defaults,
    FileSpec,
    Manifest,
    Source,
    TensorSpec,
)
from pixrt.store import sha256_file
from pixrt_export.check import check, references, tensor_table
from pixrt_export.checkpoint import Checkpoint, open_checkpoint
from pixrt_export.components import Traceable, source_scale, traceables
from pixrt_export.options import ExportOptions
from pixrt_export.precision import to_fp16
from pixrt_export.preview import fit_preview
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
    """What was written, and how long each network took in seconds."""

    folder: Path
    manifest: Manifest
    seconds: dict[Component, float]


def run_export(options: ExportOptions, on_progress: Progress) -> ExportReport:
    """Export a checkpoint; see `pixrt_export.export_checkpoint`."""
    checkpoint = open_checkpoint(options.checkpoint, allow_pickle=options.allow_pickle)
    divisor = source_scale(checkpoint, options.source_scaling_factor)
    scheduler = options.scheduler or scheduler_name(checkpoint.scheduler)
    with _folder(options) as folder:
        on_progress("hashing the checkpoint")
        source = Source(checkpoint.id, checkpoint.sha256())
        components: dict[str, ComponentSpec] = {}
        seconds: dict[Component, float] = {}
        for load in traceables(checkpoint, divisor):
            started = time.perf_counter()
            component, spec = _export_component(load, folder, options, on_progress)
            components[component] = spec
            seconds[component] = time.perf_counter() - started
        encoder = folder / components[Component.VAE_ENCODER].file
        manifest = Manifest(
            schema=SCHEMA,
            name=options.name or options.output.name,
            notice=options.notice,
            source=source,
            precision=options.precision,
            unet_in_channels=int(checkpoint.unet["in_channels"]),
            latent_channels=checkpoint.latent_channels,
            vae_scale=checkpoint.vae_scale,
            size_multiple=checkpoint.vae_scale,
            native_resolution=checkpoint.sample_size * checkpoint.vae_scale,
            scaling_factor=checkpoint.scaling_factor,
            prediction_type=checkpoint.prediction_type,
            scheduler=checkpoint.scheduler,
            tokenizer=checkpoint.tokenizer(),
            defaults=Defaults(options.steps, options.guidance_scale, options.image_guidance_scale, scheduler),
            preview=fit_preview(encoder, checkpoint.vae_scale, checkpoint.scaling_factor),
            components=components,
            files=_write_tokenizer_and_hash(checkpoint, folder),
            tools={"pixrt": __version__} | {name: metadata.version(name) for name in _TOOLS},
        )
        with atomic_write(folder / MANIFEST_NAME) as file:
            file.write(manifest.to_json().encode())
    return ExportReport(options.output, manifest, seconds)


def _export_component(
    load: Callable[[], Traceable], folder: Path, options: ExportOptions, on_progress: Progress
) -> tuple[Component, ComponentSpec]:
    """Trace, convert and check one network; only one is in memory at a time."""
    network = load()
    component, config = network.component, network.inputs
    path = folder / f"{component}.onnx"
    traced = path if options.precision == "fp32" else folder / f"{component}.fp32.onnx"
    on_progress(f"{component}: tracing")
    trace(network, traced)
    on_progress(f"{component}: running PyTorch")
    expected = references(network)
    del network, config
    gc.collect()
    kept: tuple[str, ...] = ()
    if options.precision != "fp32":
        on_progress(f"{component}: converting to {options.precision}")
        convert = to_fp16 if options.precision == "fp16" else to_fp16_weights
        kept = convert(traced, path, [reference.inputs for reference in expected])
        for file in files_of(traced):
            file.unlink()
    on_progress(f"{component}: checking against PyTorch")
    result = check(component, path, expected, options.precision)
    inputs, outputs = (tuple(map(_tensor, values)) for values in tensor_table(path))
    return component, ComponentSpec(path.name, inputs, outputs, kept, result)


def _tensor(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return TensorSpec(value.name, _DTYPES[tensor.elem_type], shape)  # type: ignore[arg-type]


def _write_tokenizer_and_hash(checkpoint: Checkpoint, folder: Path) -> dict[str, FileSpec]:
    spec = checkpoint.tokenizer()
    for name in (spec.vocab, spec.merges):
        shutil.copyfile(checkpoint.folder / "tokenizer" / name, folder / name)
    return {path.name: FileSpec(path.stat().st_size, sha256_file(path)) for path in sorted(folder.iterdir())}


def _open_to_readers(folder: Path) -> None:
    """Give every file the permissions that the umask gave the manifest; the libraries' own are for the owner alone."""
    mode = (folder / MANIFEST_NAME).stat().st_mode & 0o777
    for path in folder.iterdir():
        path.chmod(mode)
    folder.chmod(mode | 0o100 | (mode & 0o044) >> 2)


@contextmanager
def _folder(options: ExportOptions) -> Iterator[Path]:
    """A temporary folder beside the output that takes its place when everything went well, and is removed if not."""
    output = options.output
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file", remedy="Choose another -o")
    if output.is_dir() and any(output.iterdir()):
        if not options.overwrite:
            raise OutputError(f"{output} is not empty", remedy="Choose another -o, or pass --overwrite")
        if not (output / MANIFEST_NAME).is_file():
            raise OutputError(f"{output} is not a bundle, so it is not overwritten", remedy="Choose another -o")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent))
    except OSError as error:
        raise OutputError(f"cannot write to {output.parent}: {error.strerror}", remedy="Choose another -o") from error
    try:
        yield folder
        _open_to_readers(folder)
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}", remedy="Free space, or choose another -o"
        ) from error
    except torch.OutOfMemoryError as error:
        raise CheckpointError("the machine ran out of memory", remedy="Use one with more memory") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
