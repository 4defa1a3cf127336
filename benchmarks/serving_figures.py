"""The figures of trusted servers, measured on this one: what reference tables say beside what `pixrt serve` does.

    python benchmarks/serving_figures.py
    python benchmarks/serving_figures.py --only "queue limit" --only overload

Each row starts real `pixrt serve` processes; most of them run an engine that computes nothing and takes 0.2 s for a
picture. Clients are raw sockets, so that they cost next to nothing. With `--quick` some rows are shorter. It ends with
1 if a row is not as good as what it stands beside. Takes about seven minutes. Linux only: memory is read from /proc.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from figures.admission import overload, queue_limit
from figures.ending import killed, shutdown, stuck
from figures.hostile import bombs, slow_bodies
from figures.leaving import abort_storm, disconnect
from figures.rows import Row, timed
from figures.truth import metrics_truth
from serving_overhead import LIMITS_MS, percentile
from serving_overhead import measure as measure_overhead


def overhead(quick: bool) -> Row:
    """See `serving_overhead`."""
    found = measure_overhead(100 if quick else 1000)
    return Row(
        "overhead without the model",
        "512 px JPEG in and out, one at a time: "
        + ", ".join(f"{name} <= {limit:g} ms" for name, limit in LIMITS_MS.items()),
        tuple(
            timed(
                f"{name} {percentile(found.ours, int(name[1:])):.1f} ms"
                f" (FastAPI by itself {percentile(found.bare, int(name[1:])):.1f})",
                percentile(found.ours, int(name[1:])) <= limit,
            )
            for name, limit in LIMITS_MS.items()
        ),
    )


ROWS: dict[str, Callable[[bool], Row]] = {
    "queue limit": queue_limit,
    "overload": overload,
    "client disconnect": disconnect,
    "shutdown": shutdown,
    "slow bodies": slow_bodies,
    "bombs": bombs,
    "metrics truth": metrics_truth,
    "overhead": overhead,
    "abort storm": abort_storm,
    "killed worker": killed,
    "stuck worker": stuck,
}
# What is measured elsewhere, and how.
ELSEWHERE = (
    Row(
        "fuzz",
        "Triton's boofuzz, schemathesis: 0 server errors, only documented statuses",
        command="python benchmarks/serving_fuzz.py",
    ),
    Row(
        "soak",
        "memory slope < 1 MB per 1000 requests; file descriptors and threads flat",
        command="python benchmarks/serving_soak.py --minutes 30",
    ),
    Row(
        "plan files",
        "flip a byte, truncate, swap two, wrong capability, old version: a clear message each",
        command="pytest tests/engines tests/bundles",
    ),
    Row(
        "builder killed at 20 random moments",
        "the next start finds no plan or a whole one",
        command="pytest -m slow tests/engines/test_build_process.py",
    ),
    Row(
        "8 processes build the same plan",
        "one build, seven wait",
        command="pytest tests/engines/test_build_process.py",
    ),
)


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(ROWS)}; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter: 8 s of overload, 500 aborts.")] = False,
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("concern", "trusted systems", "pixrt serve", "", show_lines=True)
    failed = False
    for name in only or ROWS:
        if name not in ROWS:
            raise typer.BadParameter(f"there is no row {name!r}: {', '.join(ROWS)}")
        found = ROWS[name](quick)
        failed |= not found.has_passed
        words = (each.said if each.is_right else f"[bold red]{each.said}[/]" for each in found.findings)
        verdict = "[green]pass[/]" if found.has_passed else "[bold red]FAIL[/]"
        table.add_row(found.concern, found.trusted, "; ".join(words), verdict)
    for each in () if only else ELSEWHERE:
        table.add_row(each.concern, each.trusted, f"[dim]{each.command}[/]", "")
    console.print(table)
    raise typer.Exit(int(failed))


if __name__ == "__main__":
    typer.run(main)
