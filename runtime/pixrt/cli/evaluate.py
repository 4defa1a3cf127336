"""`pixrt eval world | photo | text-to-image | clip`: how good a model is, with confidence intervals.

The exporter's package is imported inside the subcommands. `clip`, in `evaluate_clip`, alone needs PyTorch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pixrt.cli.display import add_row, print_table, progress
from pixrt.cli.evaluate_clip import clip
from pixrt.cli.evaluate_photo import photo
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.measuring import (
    MEASURING,
    ABound,
    ABundle,
    AJsonFile,
    AKind,
    AnOverwrite,
    APlotFile,
    APsnr,
    ASheetFile,
    AWorstBlock,
    numbers,
)
from pixrt.cli.outputs import require_figures, write_json, write_png
from pixrt.cli.parameters import BUDGET, example, with_flags, with_session
from pixrt.errors import OptionError
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions, GenerateOptions

if TYPE_CHECKING:
    from pixrt.editor.editor import Editor
    from pixrt_export.evaluation.accuracy import WorldReport
    from pixrt_export.evaluation.cases import WorldCase

evaluate = typer.Typer(
    name="eval",
    help="Measure how good a model is. --seed draws the samples and the noise.",
)
DRAWN = "shapes"  # the built-in model that knows the scenes
SWEEP_IMAGE, SWEEP_TEXT = "1.0,1.2,1.5,2.0", "1,2,3,5,7.5"
evaluate.command(epilog=example("pixrt eval photo my-bundle --edits 500 --sheet photo.png"))(photo)
evaluate.command(
    epilog=example(
        "pixrt eval clip my-bundle --data photos.jsonl --clip clip-vit-large-patch14 --preprocessing original"
    )
)(clip)
SHEET_ROWS = 54  # six for each kind
SHEET_SAMPLES = 48


@evaluate.command(epilog=example("pixrt eval world my-bundle --scenes 500 --sheet world.png"))
@with_session(SessionOptions(max_batch=8), MEASURING)
@with_flags(EditOptions, defaults=EditOptions(seed=0), without=(BUDGET,))
def world(
    bundle: ABundle = DRAWN,
    scenes: Annotated[int, typer.Option(metavar="N", min=1, help="Held-out scenes, one instruction each.")] = 500,
    kind: AKind = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", metavar="", help="Measure every pair of two lists of scales.")
    ] = False,
    sweep_image: Annotated[
        str | None,
        typer.Option(metavar="LIST", help=escape(f"Image guidance scales of a sweep. [default: {SWEEP_IMAGE}]")),
    ] = None,
    sweep_text: Annotated[
        str | None, typer.Option(metavar="LIST", help=escape(f"Guidance scales of a sweep. [default: {SWEEP_TEXT}]"))
    ] = None,
    min_accuracy: ABound = None,
    min_kind_accuracy: ABound = None,
    min_psnr: APsnr = None,
    max_worst_block: AWorstBlock = None,
    json_file: AJsonFile = None,
    sheet: ASheetFile = None,
    plot: APlotFile = None,
    overwrite: AnOverwrite = False,
    lora: LoraFlag = None,
    *,
    session: SessionOptions,
    parameters: dict[str, Any],
) -> None:
    """Edit held-out scenes of the procedural world: the share of edits nearest to the right one of all answers."""
    require_packages("matplotlib", "scipy", extra="train", purpose="this evaluation")
    from pixrt.editor.editor import Editor
    from pixrt_export.evaluation.accuracy import edit_accuracy, editor_function
    from pixrt_export.evaluation.cases import held_out_cases
    from pixrt_export.evaluation.files import describe_model
    from pixrt_export.evaluation.gate import Gate
    from pixrt_export.evaluation.sheets import world_edits_sheet

    gate = Gate(min_accuracy, min_kind_accuracy, min_psnr, max_worst_block)
    sweep = sweep or sweep_image is not None or sweep_text is not None
    if sweep and (sheet is not None or gate != Gate()):
        raise OptionError("a sweep has neither a contact sheet nor bounds", remedy="Leave --sheet and the bounds out")
    if sweep and {"guidance_scale", "image_guidance_scale"} & parameters.keys():
        raise OptionError("a sweep takes its scales from two lists", remedy="Give --sweep-text and --sweep-image alone")
    if plot is not None and not sweep:
        raise OptionError("--plot draws the curves of a sweep", remedy="Add --sweep, or leave --plot out")
    require_figures(json_file, sheet, plot, overwrite=overwrite)
    scales = (
        numbers("--sweep-text", "guidance_scale", sweep_text or SWEEP_TEXT),
        numbers("--sweep-image", "image_guidance_scale", sweep_image or SWEEP_IMAGE),
    )
    seed = parameters.pop("seed", 0)
    cases = held_out_cases(scenes, seed=seed, kind=kind)
    with Editor(bundle, session, loras=lora_inputs(lora)) as editor:
        if sweep:
            _sweep(editor, parameters, cases, seed, scales, session.max_batch, json_file, plot, overwrite)
            return
        options = EditOptions(**parameters).resolve(editor.manifest.defaults, editor.levers)
        with progress("editing") as on_progress:
            report = edit_accuracy(
                editor_function(editor, parameters, seed=seed),  # type: ignore[arg-type]  # EditOptions checked them
                cases,
                size=options.resolution or editor.manifest.native_resolution,
                batch=session.max_batch,
                keep=SHEET_ROWS // len({case.kind for case in cases}),
                on_progress=on_progress,
            )
        about = {**describe_model(editor.manifest, options, editor.loras), "scenes": scenes, "seed": seed, "kind": kind}
    if json_file is not None:
        write_json(json_file, {**about, **report.facts()}, overwrite=overwrite)
    if sheet is not None:
        write_png(sheet, world_edits_sheet(report), overwrite=overwrite)
    _print_world(report)
    gate.require(report)


def _print_world(report: "WorldReport") -> None:
    table = Table("kind", "edit accuracy", "scenes", "PSNR, dB", "worst square", "spoiled", "main mistake", box=None)
    for kind, part in [*report.by_kind().items(), ("all", report)]:
        mistake = next((f"{name} ({count})" for name, count in part.mistakes.items()), "-")
        add_row(
            table,
            kind,
            part.accuracy,
            part.accuracy.count,
            part.psnr_db.text(2),
            part.worst_block.text(1),
            part.spoiled.hits,
            mistake,
        )
    print_table(table)


def _sweep(
    editor: "Editor",
    parameters: dict[str, Any],
    cases: "Sequence[WorldCase]",
    seed: int,
    scales: tuple[list[float], list[float]],
    max_batch: int,
    json_file: Path | None,
    plot: Path | None,
    overwrite: bool,
) -> None:
    from pixrt_export.evaluation.accuracy import editor_at_scales
    from pixrt_export.evaluation.files import describe_model
    from pixrt_export.evaluation.plots import sweep_plot
    from pixrt_export.evaluation.sweep import sweep_scales

    options = EditOptions(**parameters).resolve(editor.manifest.defaults, editor.levers)
    make_edit = editor_at_scales(editor, parameters, seed=seed)  # type: ignore[arg-type]  # EditOptions checked them
    size = options.resolution or editor.manifest.native_resolution
    with progress("editing") as on_progress:
        points = sweep_scales(make_edit, cases, *scales, size=size, batch=max_batch, on_progress=on_progress)
    if json_file is not None:
        about = {**describe_model(editor.manifest, options, editor.loras), "scenes": len(cases), "seed": seed}
        write_json(json_file, {**about, "points": [point.facts() for point in points]}, overwrite=overwrite)
    if plot is not None:
        write_png(plot, sweep_plot(points, title=f"{editor.manifest.name}, {len(cases)} scenes"), overwrite=overwrite)
    table = Table("sT", "sI", "edit accuracy", "PSNR, dB", "1 - RMSE to source", box=None)
    for point in points:
        pair = f"{point.guidance_scale:g}", f"{point.image_guidance_scale:g}"
        add_row(table, *pair, point.accuracy, point.psnr_db.text(2), point.source_similarity.text(3))
    print_table(table)


@evaluate.command("text-to-image", epilog=example("pixrt eval text-to-image my-bundle --sheet samples.png"))
@with_session(SessionOptions(max_batch=8), MEASURING)
@with_flags(GenerateOptions, defaults=GenerateOptions(seed=0), without=(BUDGET,))
def text_to_image(
    bundle: ABundle = DRAWN,
    samples: Annotated[
        int, typer.Option(metavar="N", min=1, help="Captions of held-out scenes, one picture each.")
    ] = 200,
    min_accuracy: ABound = None,
    json_file: AJsonFile = None,
    sheet: ASheetFile = None,
    overwrite: AnOverwrite = False,
    *,
    session: SessionOptions,
    parameters: dict[str, Any],
) -> None:
    """Make pictures of captions of the procedural world: the share that shows exactly what the caption names."""
    require_packages("scipy", extra="train", purpose="this evaluation")
    from pixrt.editor.editor import Editor
    from pixrt_export.evaluation.files import describe_model
    from pixrt_export.evaluation.gate import Gate
    from pixrt_export.evaluation.sheets import samples_sheet
    from pixrt_export.evaluation.text_to_image import generate_function, present, sample_captions, samples_facts

    gate = Gate(min_accuracy)
    require_figures(json_file, sheet, overwrite=overwrite)
    seed = parameters.pop("seed", 0)
    with Editor(bundle, session) as editor:
        options = GenerateOptions(**parameters).resolve(editor.manifest.defaults, editor.levers)
        with progress("generating") as on_progress:
            made = sample_captions(
                generate_function(editor, parameters),  # type: ignore[arg-type]  # GenerateOptions checked them
                samples,
                seed=seed,
                batch=session.max_batch,
                on_progress=on_progress,
            )
        about = {**describe_model(editor.manifest, options), "seed": seed}
    if json_file is not None:
        write_json(json_file, {**about, **samples_facts(made)}, overwrite=overwrite)
    if sheet is not None:
        write_png(sheet, samples_sheet(made[:SHEET_SAMPLES]), overwrite=overwrite)
    shares = present(made)
    table = Table("pictures", "right", "count", box=None)
    for name, share in shares.items():
        add_row(table, name, share, share.count)
    print_table(table)
    gate.require_share("the share of pictures that show their caption", shares["all"])
