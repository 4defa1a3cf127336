"""What each precision costs: size, accuracy and error of the built-in models' checkpoints, as a Markdown table.

    python benchmarks/quantisation.py FOLDER [--world shapes] [--edits 100] [--backend openvino]

Exports the checkpoint of each built-in model to FOLDER/WORLD-PRECISION, where it is not yet, and edits the held-out
scenes or photographs of `pixrt eval` with all of them. Printed:

- size of all files, and of the UNet;
- accuracy: edits that are nearest to the right one of all answers, and PSNR to that answer;
- PSNR of the pictures to what the FP32 bundle makes of the same edit and seed;
- for each network the RMS error of its outputs against FP32's, relative to the RMS of those, on the inputs that it has
  in some held-out edits (networks that are the same file are left out);
- what was measured when the bundle was made: the error with every layer in INT8, and with some kept in FP32.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pixrt import Editor
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import NETWORKS, TENSORS, Component, Manifest, Precision
from pixrt.bundles.store import Bundle, open_bundle, total_bytes
from pixrt.options.tasks import EditOptions
from pixrt.tasks.jobs import Job
from pixrt_export import ExportOptions, export_checkpoint
from pixrt_export.evaluation.accuracy import edit_accuracy, editor_function, psnr_db
from pixrt_export.evaluation.cases import held_out_cases
from pixrt_export.evaluation.photo import photo_accuracy, photo_cases
from pixrt_export.evaluation.report import Picture, Report
from pixrt_export.quantisation.capture import Row, capture_calls
from pixrt_export.quantisation.sensitivity import relative_rms

CHECKPOINTS = Path(__file__).parent.parent / "tests" / "data"
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-weights", "fp16-weights")
# The built-in bundle whose defaults are kept.
BUNDLES = {"shapes": "shapes", "photo": "demo"}
CAPTURED = 4  # edits whose inputs networks are compared on
BATCH = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """A bundle's edits."""

    report: Report[Any]
    pictures: tuple[Picture, ...]


def main(
    folder: Annotated[Path, typer.Argument(help="Where the bundles go, and are found again.")],
    world: Annotated[list[str], typer.Option(help="shapes or photo; both by default.")] = ["shapes", "photo"],  # noqa: B006
    edits: Annotated[int, typer.Option(min=1, help="Held-out edits.")] = 100,
    backend: Annotated[str, typer.Option(help="That runs the bundles.")] = "openvino",
    calibration_edits: Annotated[int, typer.Option(min=2, help="Edits that INT8 is calibrated and measured on.")] = 16,
) -> None:
    for each in world:
        bundles = {precision: bundle(folder, each, precision, calibration_edits) for precision in PRECISIONS}
        print(f"\n`{each}`, {edits} held-out edits on {backend}\n")
        print("| precision | MiB | UNet, MiB | right | PSNR to the answer, dB | PSNR to FP32, dB | error of networks |")
        print("|---|---|---|---|---|---|---|")
        exact = measure(bundles["fp32"], each, edits, backend)
        errors = network_errors(bundles, each)
        for precision, path in bundles.items():
            made = exact if precision == "fp32" else measure(path, each, edits, backend)
            print(row(precision, path, made, exact, errors[precision]), flush=True)
        print(f"\n{calibration(open_bundle(bundles['int8']).manifest)}")


def bundle(folder: Path, world: str, precision: Precision, calibration_edits: int) -> Path:
    """Export a world's checkpoint in a precision, unless that was done."""
    output = folder / f"{world}-{precision}"
    if not (output / "manifest.json").exists():
        options = ExportOptions(
            checkpoint=str(CHECKPOINTS / f"{world}_checkpoint"),
            output=output,
            precision=precision,
            defaults_from=BUNDLES[world],
            calibration_edits=calibration_edits,
        )
        export_checkpoint(options, on_progress=lambda stage: None)
    return output


def measure(path: Path, world: str, edits: int, backend: str) -> Measured:
    """Edit what is held out, with the bundle's defaults and the same seeds for every bundle."""
    pictures: list[Picture] = []
    with Editor(path, backend=backend) as editor:
        edit, size = editor_function(editor, {}), editor.manifest.native_resolution

        def remembering(sources: Iterable[Picture], texts: Sequence[str]) -> list[Picture]:
            made = edit(sources, texts)
            pictures.extend(made)
            return made

        if world == "shapes":
            report: Report[Any] = edit_accuracy(remembering, held_out_cases(edits), size=size, batch=BATCH)
        else:
            report = photo_accuracy(remembering, photo_cases(edits, size), batch=BATCH)
    return Measured(report, tuple(pictures))


def network_errors(bundles: Mapping[Precision, Path], world: str) -> dict[Precision, dict[Component, float]]:
    """Relative RMS error of every network against FP32's, on what FP32's read in held-out edits."""
    exact = open_bundle(bundles["fp32"])
    size = exact.manifest.native_resolution
    cases: Sequence[Any] = held_out_cases(CAPTURED) if world == "shapes" else photo_cases(CAPTURED, size)
    jobs = []
    for case in cases:
        source = case.source(size) if world == "shapes" else case.source
        jobs.append(Job(options=EditOptions(seed=0), text=case.text, image=source))
    calls: dict[Component, list[Any]] = {component: [] for component in NETWORKS}
    for captured in capture_calls(exact, jobs, NETWORKS, lambda number: None):
        for component, given in captured.items():
            calls[component] += given
    errors: dict[Precision, dict[Component, float]] = {}
    for precision, path in bundles.items():
        other = open_bundle(path)
        errors[precision] = {}
        for component in NETWORKS:
            if digest(exact, component) != digest(other, component):
                errors[precision][component] = network_error(other, component, calls[component])
    return errors


def digest(bundle: Bundle, component: Component) -> tuple[str, ...]:
    """What a network's files are."""
    names = bundle.graphs[component]
    return tuple(bundle.manifest.files[name].sha256 for name in names)


def network_error(bundle: Bundle, component: Component, calls: Sequence[Row]) -> float:
    """Of a network on what another one read, relative to what that wrote."""
    (output,) = TENSORS[component][1]
    made = []
    backend = open_backend("ort-cpu", bundle).backend
    with closing(backend), closing(backend.open(bundle, component)) as engine:
        for call in calls:
            result = np.empty_like(call[output])
            engine.bind({**call, output: result})()
            made.append(result.ravel())
    return relative_rms(np.concatenate(made), np.concatenate([call[output].ravel() for call in calls]))


def row(precision: str, path: Path, made: Measured, exact: Measured, errors: Mapping[Component, float]) -> str:
    """A bundle's line of the table."""
    bundle = open_bundle(path)
    files = bundle.manifest.files
    unet = sum(files[name].bytes for name in bundle.graphs[Component.UNET])
    right, report = made.report.accuracy, made.report
    pairs = zip(made.pictures, exact.pictures, strict=True)
    same = "-" if made is exact else f"{np.mean([psnr_db(one, other) for one, other in pairs]):.1f}"
    told = ", ".join(f"{name} {error:.2%}" for name, error in errors.items()) or "-"
    sizes = f"{total_bytes(files.values()) / 2**20:.1f} | {unet / 2**20:.1f}"
    return f"| `{precision}` | {sizes} | {right} | {report.psnr_db.text(1)} | {same} | {told} |"


def calibration(manifest: Manifest) -> str:
    """What was measured when the INT8 bundle was made."""
    (given,) = manifest.quantised
    kept = ", ".join(f"`{name}` {error:.2%}" for name, error in given.kept.items()) or "none"
    return (
        f"INT8: calibrated on {given.rows} rows of {given.edits} edits ({given.calibrated_on}); relative RMS error of"
        f" the UNet on {given.measured_rows} rows of others {given.error_of_all:.2%} with every layer in INT8,"
        f" {given.error:.2%} with {given.kept_macs:.1%} of the work kept in FP32: {kept}."
    )


if __name__ == "__main__":
    typer.run(main)
