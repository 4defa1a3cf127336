"""`pixrt data check | sheet | draw`: what is wrong in a training set, and pictures of the procedural world.

The exporter's package is imported inside the subcommands. None of them needs PyTorch.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixrt.cli.console import say
from pixrt.cli.display import add_row, print_table, progress
from pixrt.cli.parameters import example, with_flags
from pixrt.errors import DataError, OptionError, OutputError
from pixrt.files import atomic_write, require_free
from pixrt_export.data.options import SetOptions

if TYPE_CHECKING:
    from pixrt_export.data.report import DataReport
    from pixrt_export.world.pairs import WorldPairs

data = typer.Typer(name="data", help="Check training data, and draw some.")
SHOWN = 20  # findings of each sort, sizes of each picture
_SPLITS = ("train", "held-out")

_Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Which samples are drawn.")]
_Split = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="train, or held-out: combinations not drawn there.", autocompletion=lambda: [*_SPLITS]
    ),
]
_Size = Annotated[int, typer.Option(metavar="N", min=16, max=2048, help="Side of the pictures in pixels.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a file that is there already.")]


@data.command(epilog=example("pixrt data check pairs/ --size 256 --json report.json"))
@with_flags(SetOptions, "reading")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A training set's folder.")],
    size: Annotated[int, typer.Option(metavar="N", min=1, help="The side in pixels that it will be trained at.")] = 256,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Threads that read pictures.")] = 2,
    overwrite: _Overwrite = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Read every picture of a training set and list what is wrong; exit code 9 where training would fail."""
    from pixrt_export.data.check import check_pairs

    if json_file is not None:
        require_free(json_file, overwrite=overwrite)
    with progress("checking") as on_progress:
        report = check_pairs(folder, SetOptions(**reading), size=size, workers=workers, on_progress=on_progress)
    if json_file is not None:
        with atomic_write(json_file, overwrite=overwrite) as file:
            file.write(json.dumps(report.to_json(), indent=1).encode())
    _print_report(report)
    if report.fatal:
        raise DataError(
            f"{folder} has {report.fatal} {'finding' if report.fatal == 1 else 'findings'} that training would fail at",
            remedy="Correct or remove these samples",
        )


@data.command(epilog=example("pixrt data sheet -o world.png --kind border"))
def sheet(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The picture, a .png.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many samples.")] = 48,
    kind: Annotated[str | None, typer.Option(metavar="NAME", help="Instructions of this kind only.")] = None,
    seed: _Seed = 0,
    split: _Split = "train",
    size: _Size = 64,
    overwrite: _Overwrite = False,
) -> None:
    """Draw a contact sheet of the procedural world: pictures before and after, and the instruction."""
    from pixrt_export.world.sheet import world_sheet

    if output.suffix.lower() != ".png":
        raise OutputError(f"{output} is not a .png", remedy="Give -o a name that ends in .png")
    require_free(output, overwrite=overwrite)
    picture = world_sheet(_world(count, kind, seed, split), count, size=size)
    with atomic_write(output, overwrite=overwrite) as file:
        picture.save(file, "PNG")
    say(f"{output}  {picture.width} x {picture.height}  {count} samples")


@data.command(epilog=example("pixrt data draw -o border/ --kind border --count 200"))
def draw(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A folder that does not exist.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many samples.")],
    kind: Annotated[str | None, typer.Option(metavar="NAME", help="Instructions of this kind only.")] = None,
    seed: _Seed = 0,
    split: _Split = "train",
    size: _Size = 64,
) -> None:
    """Write samples of the procedural world as a training set: PNGs and a metadata.jsonl."""
    from pixrt_export.data.writing import write_pairs

    with progress("drawing") as on_progress:
        write_pairs(_world(count, kind, seed, split), output, size=size, on_progress=on_progress)
    say(f"{output}  {count} samples of {size} x {size}")


def _world(count: int, kind: str | None, seed: int, split: str) -> "WorldPairs":
    from pixrt_export.world.instructions import KINDS
    from pixrt_export.world.pairs import WorldPairs

    if kind is not None and kind not in KINDS:
        raise OptionError(f"no kind of instruction is called {kind!r}", remedy=f"Choose one of {', '.join(KINDS)}")
    if split not in _SPLITS:
        raise OptionError(f"split is {split!r}", remedy=f"Choose one of {', '.join(_SPLITS)}")
    return WorldPairs(count, seed=seed, split=split, kind=kind)  # type: ignore[arg-type]  # just checked


def _print_report(report: "DataReport") -> None:
    from pixrt_export.data.report import FATAL, MEANINGS

    table = Table(box=None, show_header=False)
    add_row(table, "samples", report.samples, f"{report.without_source} of them without a source")
    for role, sizes in (("source", report.source_sizes), ("target", report.target_sizes)):
        for (width, height), count in list(sizes.items())[:SHOWN]:
            add_row(table, f"{role} size", count, f"{width} x {height}")
        if len(sizes) > SHOWN:
            add_row(table, f"{role} size", sum(list(sizes.values())[SHOWN:]), f"{len(sizes) - SHOWN} more sizes")
    for fault, count in report.counts.items():
        add_row(table, fault, count, MEANINGS[fault])
    print_table(table)
    for fault, found in report.findings.items():
        if found:
            say("")
            say(f"{fault}{'' if fault in FATAL else ' (a warning)'}: {MEANINGS[fault]}")
        for finding in found[:SHOWN]:
            say(f"  {finding}")
        if report.counts[fault] > SHOWN:
            say(f"  and {report.counts[fault] - SHOWN} more")
