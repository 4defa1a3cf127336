"""`pixrt eval photo`: edits of photographs that no training has seen, against their computed answers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixrt.bundles.store import DEFAULT_BUNDLE
from pixrt.cli.console import say
from pixrt.cli.display import add_row, print_table, progress
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.measuring import (
    MEASURING,
    ABound,
    ABundle,
    AJsonFile,
    AKind,
    AnOverwrite,
    APsnr,
    ASheetFile,
    AWorstBlock,
)
from pixrt.cli.outputs import require_figures, write_json, write_png
from pixrt.cli.parameters import BUDGET, with_flags, with_session
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions

if TYPE_CHECKING:
    from pixrt_export.evaluation.photo import PhotoReport

SHEET_ROWS = 2  # of each kind
RECONSTRUCTED = 64  # sources that the autoencoder is measured on


@with_session(SessionOptions(max_batch=4), MEASURING)
@with_flags(EditOptions, defaults=EditOptions(seed=0), without=(BUDGET,))
def photo(
    bundle: ABundle = DEFAULT_BUNDLE,
    edits: Annotated[int, typer.Option(metavar="N", min=1, help="Held-out crops, one instruction each.")] = 500,
    size: Annotated[int, typer.Option(metavar="N", min=32, max=2048, help="Side of the crops in pixels.")] = 256,
    kind: AKind = None,
    min_accuracy: ABound = None,
    min_kind_accuracy: ABound = None,
    min_psnr: APsnr = None,
    max_worst_block: AWorstBlock = None,
    json_file: AJsonFile = None,
    sheet: ASheetFile = None,
    overwrite: AnOverwrite = False,
    lora: LoraFlag = None,
    *,
    session: SessionOptions,
    parameters: dict[str, Any],
) -> None:
    """Edit held-out photographs: the share of edits nearest to the right one of all answers, and how near they are."""
    require_packages("matplotlib", "scipy", extra="train", purpose="this evaluation")
    from pixrt.editor.editor import Editor
    from pixrt_export.evaluation.accuracy import editor_function
    from pixrt_export.evaluation.files import describe_model
    from pixrt_export.evaluation.gate import Gate
    from pixrt_export.evaluation.photo import photo_accuracy, photo_cases, photo_sheet, reconstruction_psnr_db
    from pixrt_export.evaluation.reconstruction import reconstruct

    gate = Gate(min_accuracy, min_kind_accuracy, min_psnr, max_worst_block)
    require_figures(json_file, sheet, overwrite=overwrite)
    seed = parameters.pop("seed", 0)
    cases = photo_cases(edits, size, seed=seed, kind=kind)
    shown = [case.source for case in cases[:RECONSTRUCTED]]
    reconstruction = reconstruction_psnr_db(cases, reconstruct(bundle, session, shown))
    with Editor(bundle, session, loras=lora_inputs(lora)) as editor:
        options = EditOptions(**parameters).resolve(editor.manifest.defaults, editor.levers)
        with progress("editing") as on_progress:
            report = photo_accuracy(
                editor_function(editor, parameters, seed=seed),  # type: ignore[arg-type]  # EditOptions checked them
                cases,
                batch=session.max_batch,
                keep=0 if sheet is None else SHEET_ROWS,
                on_progress=on_progress,
            )
        about = {**describe_model(editor.manifest, options, editor.loras), "edits": edits, "size": size, "seed": seed}
    if json_file is not None:
        facts = {"kind": kind, "reconstruction_psnr_db": reconstruction.facts(), **report.facts()}
        write_json(json_file, {**about, **facts}, overwrite=overwrite)
    if sheet is not None:
        write_png(sheet, photo_sheet(report.verdicts), overwrite=overwrite)
    _print(report)
    say(f"PSNR of the autoencoder alone, dB: {reconstruction.text(1)}")
    gate.require(report)


def _print(report: "PhotoReport") -> None:
    table = Table("kind", "right", "edits", "PSNR, dB", "worst square", "main mistake", box=None)
    for kind, part in [*report.by_kind().items(), ("all", report)]:
        mistake = next((f"{name} ({count})" for name, count in part.mistakes.items()), "-")
        row = part.accuracy, part.accuracy.count, part.psnr_db.text(1), part.worst_block.text(1), mistake
        add_row(table, kind, *row)
    print_table(table)
