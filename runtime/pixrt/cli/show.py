"""`pixrt models` and `pixrt inspect`: what bundles there are, and what a bundle or a picture holds."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pixrt.bundles.engine_spec import EngineSpec
from pixrt.bundles.manifest import MANIFEST_NAME, Component, Manifest, Precision, QuantisationSpec
from pixrt.bundles.store import find_bundle, list_bundles, models_folder, open_bundle, total_bytes
from pixrt.cli.console import cut, say
from pixrt.cli.display import add_row, facts_table, print_table
from pixrt.cli.doctor import told_of_auto
from pixrt.errors import BundleError, PictureError

if TYPE_CHECKING:
    from pixrt.pictures.marks import Marks

_STATES = {
    "Invalid": "not valid, the picture was changed or its signature never held",
    "Valid": "unchanged since, by a signer whose issuer is not known here",
    "Trusted": "unchanged since, by a trusted signer",
}
_REMARKS: dict[Precision, str] = {
    "int8": ", the UNet, made for OpenVINO: ONNX Runtime runs it right, and no faster than fp32",
    "int8-weights": ", the UNet, with FP32 arithmetic: smaller, not faster",
}


def models(
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON line per bundle.")] = False,
) -> None:
    """List the bundles that can be used by name."""
    table = Table("name", "task", "precision", "pixels", "MiB", "folder", box=None)
    for name, folder in list_bundles():
        try:
            manifest = open_bundle(folder, verify=False).manifest
        except BundleError as error:
            row: dict[str, object] = {"name": name, "folder": str(folder), "error": str(error)}
            add_row(table, name, "unusable", "", "", "", error.problem)
        else:
            mib = total_bytes(manifest.files.values()) / 2**20
            row = {
                "name": name,
                "task": manifest.task,
                "precision": manifest.precision,
                "native_resolution": manifest.native_resolution,
                "mib": round(mib, 1),
                "folder": str(folder),
            }
            add_row(table, name, manifest.task, manifest.precision, manifest.native_resolution, f"{mib:.1f}", folder)
        if as_json:
            say(json.dumps(row))
    if not as_json:
        print_table(table)
        say(f"Bundles in {models_folder()} are found by name.")


def inspect(
    target: Annotated[str, typer.Argument(metavar="BUNDLE|PICTURE", help="A bundle's folder or name, or a picture.")],
    watermark: Annotated[
        bool,
        typer.Option(
            "--watermark", metavar="", help="Look for the watermark of `pixrt edit --watermark` in the picture too."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")] = False,
) -> None:
    """Check a bundle and print what it holds, or print the parameters and marks inside a picture that pixrt wrote."""
    path = Path(target)
    if path.name == MANIFEST_NAME:
        _inspect_bundle(str(path.parent), as_json)
    elif _is_file(path):
        _inspect_picture(path, watermark, as_json)
    else:
        _inspect_bundle(target, as_json)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, no permission to look: the bundle's error tells
        return False


def _inspect_bundle(target: str, as_json: bool) -> None:
    opened = open_bundle(find_bundle(target))
    manifest = opened.manifest
    if as_json:
        say(json.dumps(dataclasses.asdict(manifest)))
        return
    defaults = manifest.defaults
    facts = {
        "name": manifest.name,
        "notice": manifest.notice or "-",
        "task": f"{manifest.task} ({manifest.unet_in_channels} input channels)",
        "source": f"{manifest.source.id} (SHA-256 {manifest.source.sha256[:12]}){_vae(manifest)}",
        **({"LoRAs merged": _loras(manifest)} if manifest.source.loras else {}),
        "precision": f"{manifest.precision}{_REMARKS.get(manifest.precision, '')}",
        "native size": f"{manifest.native_resolution} px, padded to multiples of {manifest.size_multiple}",
        "prediction": manifest.prediction,
        "scaling factor": f"{manifest.latents.scaling:g}",
        "defaults": f"{defaults.steps} steps of {defaults.scheduler}, guidance {defaults.guidance_scale:g},"
        f" image guidance {defaults.image_guidance_scale:g}",
        **({"DeepCache": f"cache_branch_id {cache.cache_branch_id}"} if (cache := manifest.deep_cache) else {}),
        **({"examples": "; ".join(manifest.examples)} if manifest.examples else {}),
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.tools.items()),
        **({"backend auto": because} if (because := told_of_auto(opened)) else {}),
        "files": f"{len(manifest.files)}, {total_bytes(manifest.files.values()) / 2**20:.1f} MiB, as in the manifest",
    }
    print_table(facts_table([*facts.items()]))
    if manifest.instructions:
        say("")
        say("instructions, by kind")
        print_table(facts_table([(f"  {kind}", cut("; ".join(each))) for kind, each in manifest.instructions.items()]))
    for name, component in manifest.components.items():
        say("")
        say(f"{name}  ({component.file})")
        for arrow, tensors in (("in ", component.inputs), ("out", component.outputs)):
            for tensor in tensors:
                shape = ", ".join(map(str, tensor.shape))
                say(f"  {arrow} {tensor.name}  {tensor.dtype} [{shape}]")
        check, reference = component.check, manifest.reference(Component(name))
        say(
            f"  against {reference}: max error {check.max_error:.1e}, mean {check.mean_error:.1e}"
            f" (tolerance {check.tolerance:.0e})"
        )
        if component.kept_fp32:
            say(f"  kept in FP32: {cut(', '.join(component.kept_fp32))}")
        for each in manifest.quantised:
            if each.component == name:
                say(f"  {_calibration(each)}")
    for engine in manifest.engines:
        say("")
        say(f"{engine.component}  ({engine.file})")
        say(f"  {engine.library} {engine.library_version}, {engine.precision}, {engine.bytes / 2**20:.1f} MiB")
        say(f"  for {', '.join(engine.targets)}{f', built on {engine.gpu}' if engine.gpu else ''}{_kind(engine)}")
        for profile in engine.profiles:
            for name, sizes in profile.inputs.items():
                say(f"  in  {name}  {sizes}")


def _calibration(given: QuantisationSpec) -> str:
    return (
        f"calibrated on {given.rows} rows of {given.edits} edits of {cut(given.calibrated_on, 60)}; error against FP32"
        f" {given.error:.1%}, {given.error_of_all:.1%} if every layer were quantised; {given.kept_macs:.1%} of its work"
        " kept in FP32"
    )


def _kind(engine: EngineSpec) -> str:
    kinds = ("refittable", "stripped", "version_compatible", "hardware_compatible", "weight_streaming")
    return "".join(f", {kind.replace('_', ' ')}" for kind in kinds if getattr(engine, kind))


def _vae(manifest: Manifest) -> str:
    return f", with the VAE of {manifest.source.vae}" if manifest.source.vae else ""


def _loras(manifest: Manifest) -> str:
    loras = manifest.source.loras
    return ", ".join(f"{lora.name}, scale {lora.scales} (SHA-256 {lora.sha256[:12]})" for lora in loras)


def _inspect_picture(path: Path, watermark: bool, as_json: bool) -> None:
    from pixrt.pictures.codecs import read_parameters
    from pixrt.pictures.images import load_picture
    from pixrt.pictures.marks import read_marks

    picture = load_picture(path)
    height, width = picture.rgb.shape[:2]
    marks = read_marks(path, watermark=watermark)
    facts: dict[str, object] = {
        "width": width,
        "height": height,
        "alpha": picture.alpha is not None,
        **dataclasses.asdict(marks),
    }
    try:
        facts["parameters"] = read_parameters(path)
    except PictureError as error:
        facts["parameters"] = None
        facts["note"] = error.problem
    if as_json:
        say(json.dumps(facts))
        return
    say(f"{path}  {width} x {height}{', with alpha' if picture.alpha is not None else ''}")
    for line in _marks(marks):
        say(f"  {line}")
    parameters = facts["parameters"]
    if isinstance(parameters, dict):
        for name, value in parameters.items():
            say(f"  {cut(name, 100)}: {cut(value)}")
    else:
        say(f"  {facts['note']}")


def _marks(marks: "Marks") -> Iterator[str]:
    """What is said of the marks, a line each."""
    from pixrt.pictures.watermark import ENOUGH, PAYLOAD

    if marks.source_type is not None:
        yield f"made as (IPTC): {marks.source_type.name.lower()}, {marks.source_type}"
    if marks.signature is not None:
        by = f", by {marks.signature.signer}" if marks.signature.signer else ""
        yield f"signed (C2PA): {_STATES.get(marks.signature.state, marks.signature.state)}{by}"
    elif marks.signature_unread:
        yield f"signed (C2PA): not known, for {marks.signature_unread}"
    if marks.watermark_bits is not None:
        yes = "yes" if marks.watermark_bits >= ENOUGH else "no"
        yield f"watermark: {yes}, {marks.watermark_bits} of {len(PAYLOAD)} bits"
