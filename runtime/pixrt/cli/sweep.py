"""`pixrt sweep`: one edit with every combination of lists of parameters, on one labelled sheet."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixrt.apps.sweep import SWEPT, Axis, file_name, make_cells, parse_axis, parse_seeds, several
from pixrt.cli.console import say, warn
from pixrt.cli.display import add_row, print_table
from pixrt.cli.inputs import read_input
from pixrt.cli.measuring import AJsonFile
from pixrt.cli.outputs import STREAM, plan_outputs, require_figures, write_json
from pixrt.cli.parameters import BUDGET, MASK, OUTPUT, with_arguments_of, with_flags
from pixrt.cli.results import Notes, warn_beforehand
from pixrt.cli.running import Running
from pixrt.errors import OutputError
from pixrt.files import require_free
from pixrt.options.tasks import EditOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pixrt.apps.sweep_sheet import Sheet
    from pixrt.apps.sweep_table import Measured, StepRow
    from pixrt.core.timing import StageTimes
    from pixrt.editor.editor import Editor
    from pixrt.editor.result import EditResult, Estimate
    from pixrt.pictures.marking import Marking
    from pixrt.tasks.requests import Request

_LISTS = tuple(name for name in SWEPT if name != "seed")


@with_arguments_of(Running, "running", without=("as_json", "quality"))
@with_flags(EditOptions, lists=_LISTS, without=(BUDGET,))
def sweep(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture to edit; - is standard input.")],
    instruction: Annotated[str, typer.Argument(metavar="INSTRUCTION", help="What is to be done.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="The folder of the pictures and of sheet.png.",
            rich_help_panel=OUTPUT,
        ),
    ],
    seeds: Annotated[str, typer.Option(metavar="LIST", help="How many, from --seed on; or several with commas.")] = "1",
    mask: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="White may change; or transparent, where anything is.", rich_help_panel=MASK),
    ] = None,
    json_file: AJsonFile = None,
    *,
    running: Running,
    parameters: dict[str, Any],
) -> None:
    """Edit a picture with every combination of lists of parameters, on one labelled sheet.

    Prints how far the edits are from the source, against the time that their steps take.
    """
    from pixrt.apps.sweep_sheet import plan_sheet
    from pixrt.apps.sweep_table import source_as_result, step_table
    from pixrt.pictures.images import load_picture, to_image
    from pixrt.pictures.masks import load_mask
    from pixrt.tasks.jobs import Job

    given = {name: parameters.pop(name) for name in _LISTS if name in parameters}
    swept = {name: parse_axis(name, text) for name, text in given.items()}
    swept["seed"] = parse_seeds(seeds, parameters.pop("seed", None))
    axes = [swept[name] for name in SWEPT if name in swept]
    cells = make_cells(axes)
    original = read_input(image)
    picture = load_picture(original)
    # Decoded once for all, and the same object in every job: it is measured once too.
    decoded, selected = to_image(picture), None if mask is None else load_mask(mask, picture.rgb.shape[1::-1])
    jobs = [
        Job(options=EditOptions(**(parameters | dict(cell.values))), text=instruction, image=decoded, mask=selected)
        for cell in cells
    ]
    marking = running.open_marking()
    if running.build_first(jobs):
        return
    with running.open() as editor:
        if not running.quiet:
            warn_beforehand(editor)
        requests = editor.check(jobs)
        source = source_as_result(picture, requests[0].geometry, masked=mask is not None)
        sheet = plan_sheet(axes, cells, (source.shape[1], source.shape[0]))
        sheets = ["sheet.png", *(f"sheet-{number}.png" for number in range(2, len(sheet.pages) + 1))]
        keep = [path for path in (Path(image), mask) if path not in (None, STREAM)]
        names = [file_name(cell, axes) for cell in cells]
        targets = plan_outputs([*names, *sheets], output, keep=keep, made=True, overwrite=running.overwrite)
        _require_json(json_file, output, keep, running.overwrite)
        estimates = editor.estimate(requests)  # also what has no schedule is told before anything runs
        if running.dry_run:
            _print_plan(estimates, sheet)
            return
        started = time.perf_counter()
        once = _warm_up(editor, requests[: running.session.max_batch])
        measured, last = _make(editor, estimates, targets, source, running, marking, original)
        common = {name: value for name, value in last.parameters.items() if name not in swept} | {
            "task": "sweep",
            "swept": {axis.name: axis.values for axis in axes},
        }
        _draw(sheet, axes, common, targets[: len(cells)], targets[len(cells) :], source, marking, running.overwrite)
        rows = step_table(measured)
        if json_file is not None:
            facts = {
                **common,
                "backend": editor.backend,
                "max_batch": running.session.max_batch,
                "once": dataclasses.asdict(once),
                "steps": [dataclasses.asdict(row) for row in rows],
                "cells": [
                    {"file": name, **cell.values, **dataclasses.asdict(each.strength)}
                    for name, cell, each in zip(names, cells, measured, strict=True)
                ],
                "sheets": sheets,
            }
            write_json(json_file, facts, overwrite=running.overwrite)
        _print_table(rows)
        for target in targets[len(cells) :]:
            say(target)
        notes = Notes(running.quiet)
        notes.add(last)
        notes.tell()
        if not running.quiet:
            warn(
                "distance (mean absolute) and RMS are to the source, of 255. Cells advance together, and share a"
                " step's time by the branches that they run."
                f" What comes once is not in it: networks opened in {once.load_ms:.0f} ms, texts encoded in"
                f" {once.text_ms:.0f} ms, the source in {once.encode_ms:.0f} ms, a step to warm up"
            )
            warn(f"{len(cells)} made in {time.perf_counter() - started:.2f} s on {editor.backend}")


def _require_json(path: Path | None, output: Path, keep: Sequence[Path], overwrite: bool) -> None:
    """The file of the figures may be in the folder that is made for the pictures."""
    if path is None:
        return
    if path.resolve() in [kept.resolve() for kept in keep]:
        raise OutputError(f"{path} is an input, and inputs are never overwritten", remedy="Choose another --json")
    if path.suffix.lower() != ".json":
        raise OutputError(f"{path} is not a .json", remedy="Give a name that ends in .json")
    if path.parent.resolve() != output.resolve() or path.is_dir():
        require_figures(path, overwrite=overwrite)
    require_free(path, overwrite=overwrite)


def _print_plan(estimates: "Sequence[Estimate]", sheet: "Sheet") -> None:
    """What a dry run says: all in all, then for each solver and number of steps."""
    pages = ", ".join(f"{page.size[0]} x {page.size[1]}" for page in sheet.pages)
    rows = sum(estimate.network_rows for estimate in estimates)
    say(f"{len(estimates)} cells: {rows} branch evaluations, and a step to warm up; sheet {pages}")
    solvers = [(estimate.request.options.scheduler, estimate.request.options.steps) for estimate in estimates]
    for solver in dict.fromkeys(solvers):
        mine = [estimate.network_rows for estimate, its in zip(estimates, solvers, strict=True) if its == solver]
        say(f"{solver[0]}, {solver[1]} steps: {len(mine)} cells, {sum(mine)} branch evaluations")


def _warm_up(editor: "Editor", batch: "Sequence[Request]") -> "StageTimes":
    """One step of as many cells as advance together, so that no figure has in it what comes once; what that took."""
    from pixrt.core.timing import StageTimes

    first = {"preset": None, "scheduler": "ddim", "steps": 1}
    jobs = [
        dataclasses.replace(request.job, options=dataclasses.replace(request.options, **first))  # type: ignore[arg-type]
        for request in batch
    ]
    times = [dataclasses.asdict(result.times) for result in editor.run(editor.check(jobs))]
    return StageTimes(**{name: sum(each[name] for each in times) for name in times[0]})


def _make(
    editor: "Editor",
    estimates: "Sequence[Estimate]",
    targets: Sequence[Path],
    source: "NDArray[Any]",
    running: Running,
    marking: "Marking",
    original: str | bytes,
) -> "tuple[list[Measured], EditResult]":
    """Make and save the pictures as they come; what was measured of each, in the sweep's order, and the last result."""
    from pixrt.apps.sweep_table import Measured, strength
    from pixrt.editor.events import Failed
    from pixrt.pictures.images import load_picture

    requests, measured = [estimate.request for estimate in estimates], dict[int, Measured]()
    for event in running.follow(editor, requests, "sweeping"):
        if isinstance(event, Failed):
            raise event.error
        result = event.result
        result.save(targets[result.index], marking=marking, source=original, overwrite=running.overwrite)
        options = result.options
        assert options.scheduler is not None
        assert options.steps is not None
        measured[result.index] = Measured(
            scheduler=options.scheduler,
            steps=options.steps,
            strength=strength(load_picture(result.image).rgb, source),
            denoise_ms=result.times.denoise_share_ms,
            decode_ms=result.times.decode_ms,
        )
    return [measured[index] for index in sorted(measured)], result


def _draw(
    sheet: "Sheet",
    axes: Sequence[Axis],
    common: dict[str, Any],
    pictures: Sequence[Path],
    targets: Sequence[Path],
    source: "NDArray[Any]",
    marking: "Marking",
    overwrite: bool,
) -> None:
    """Paint the pages out of the written pictures, so that a sweep of thousands is not held in memory."""
    from PIL import Image

    from pixrt.apps.sweep_sheet import draw_page
    from pixrt.pictures.codecs import save_picture
    from pixrt.pictures.images import load_picture
    from pixrt.pictures.provenance import SourceType

    changing = {axis.name for axis in several(axes)}
    fixed = {axis.name: axis.values[0] for axis in axes if axis.name not in changing}
    defaults = {option.name: option.default for option in dataclasses.fields(EditOptions)}
    shown = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in (common | fixed).items()
        if name in defaults and value != defaults[name]
    ]
    for number, (page, target) in enumerate(zip(sheet.pages, targets, strict=True), 1):
        facts = [common["model"], *shown, *([f"page {number} of {len(targets)}"] if len(targets) > 1 else [])]
        image = draw_page(
            sheet,
            page,
            Image.fromarray(source),
            lambda index: Image.fromarray(load_picture(pictures[index]).rgb),
            title=common["instruction"],
            facts=", ".join(facts),
        )
        text = json.dumps(common, ensure_ascii=False)
        save_picture(image, target, parameters=text, made=SourceType.EDITED, marking=marking, overwrite=overwrite)


def _print_table(rows: "Sequence[StepRow]") -> None:
    table = Table("scheduler", "steps", "pictures", "distance", "RMS", "ms/picture", "denoise", "decode", box=None)
    for row in rows:
        times = (f"{ms:.1f}" for ms in (row.picture_ms, row.denoise_ms, row.decode_ms))
        add_row(table, row.scheduler, row.steps, row.pictures, f"{row.mean_absolute:.2f}", f"{row.rms:.2f}", *times)
    print_table(table)
