"""The UNet of an FP32 bundle becomes INT8: calibrated on edits that the bundle itself makes, and measured on others."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from pixrt.bundles.manifest import Component, ExportCheck, Manifest, QuantisationSpec
from pixrt.bundles.store import open_bundle
from pixrt_export.check import Reference, check
from pixrt_export.options import ExportOptions
from pixrt_export.quantisation.calibration import CalibrationSet, calibration_jobs
from pixrt_export.quantisation.capture import OUTPUT, Row, capture_rows, inputs_of
from pixrt_export.quantisation.qdq import QuantisedGraph
from pixrt_export.quantisation.quantiser import quantise_graph
from pixrt_export.quantisation.sensitivity import choose_layers
from pixrt_export.quantisation.work import count_macs
from pixrt_export.tracing import files_of, save

# One edit of so many is not calibrated on: layers are chosen, and errors measured, on those.
ONE_MEASURES_OF = 4
# Rows that layers are measured on: every layer is a run of all of them.
MEASURED_ROWS = 12
Progress = Callable[[str], None]


def quantise_unet(
    folder: Path, manifest: Manifest, given: CalibrationSet, options: ExportOptions, target: Path, progress: Progress
) -> tuple[QuantisationSpec, ExportCheck]:
    """Write the UNet of the FP32 bundle in `folder`, with its manifest, as INT8 to `target`.

    Raises CheckpointError, DataError, PictureError and others of PixrtError.
    """
    source = folder / manifest.component(Component.UNET).file
    count, seed = options.calibration_edits, options.calibration_seed

    def on_edit(number: int) -> None:
        progress(f"{Component.UNET}: calibrating, edit {number + 1} of {count}")

    jobs = calibration_jobs(given, manifest, count, seed)
    edits = capture_rows(open_bundle(folder, verify=False), jobs, on_edit)
    measuring = max(1, count // ONE_MEASURES_OF)
    calibrating = [row for edit in edits[:-measuring] for row in edit]
    others = [row for edit in edits[-measuring:] for row in edit]
    rows = [others[at] for at in np.unique(np.linspace(0, len(others) - 1, MEASURED_ROWS).round().astype(int))]
    progress(f"{Component.UNET}: quantising")
    quantised = source.with_name("quantised.onnx")
    quantise_graph(source, quantised, [inputs_of(row) for row in calibrating])
    macs = count_macs(source, inputs_of(rows[0]))
    choice = choose_layers(quantised, rows, macs, lambda what: progress(f"{Component.UNET}: measuring {what}"))
    graph = QuantisedGraph(onnx.load(str(quantised)))
    alone = sum(macs[name] for name in macs.keys() - set(graph.layers)) / sum(macs.values())
    graph.put_back(choice.kept)
    save(graph.model, target)
    for file in files_of(quantised):
        file.unlink()
    progress(f"{Component.UNET}: checking INT8 against FP32")
    result = check(Component.UNET, target, _references(rows), "int8")
    spec = QuantisationSpec(
        component=Component.UNET.value,
        calibrated_on=given.name,
        edits=count - measuring,
        rows=len(calibrating),
        measured_rows=len(rows),
        seed=seed,
        error_of_all=choice.error_of_all,
        error=choice.error,
        kept=choice.kept,
        kept_macs=choice.kept_macs,
        other_macs=alone,
    )
    return spec, result


def _references(rows: Sequence[Row]) -> list[Reference]:
    return [Reference(inputs_of(row), row[OUTPUT]) for row in rows]
