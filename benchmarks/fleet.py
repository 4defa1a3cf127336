"""How many GPUs a service takes, and what becomes of requests on a fleet, in virtual time.

    python benchmarks/fleet.py plan [--device a100] [--mix turbo] [--rate 100] [--json FILE]
    python benchmarks/fleet.py run --rate 20 --replicas 14 --pattern bursty --scale-to 40 --failure-hours 1
    python benchmarks/fleet.py results        # those of docs/fleet.md

Every replica is the server's own dispatcher and admission on a stated curve (`fleets.devices`). The same seed gives
the same figures. `fleet_check.py` holds them beside two real servers.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fleets.asking import PATTERNS, PRESETS, ask, replay
from fleets.devices import FLEETS, named
from fleets.figures import SLO, figures
from fleets.reports import text, write
from fleets.results import MIXES as MIXES_OF_PAGE
from fleets.results import RATES as RATES_OF_PAGE
from fleets.results import results as results_of
from fleets.routing import ROUTERS
from fleets.running import Failures, Fleet, run
from fleets.scaling import DOWN_S, START_S, UP_S, Scaling
from fleets.sizing import GOAL, MOST, Need, need, work_of
from loads.traffic import MIXES
from pixrt.errors import OptionError, PixrtError
from pixrt.reading import read_json

DOCS = Path(__file__).parent.parent / "docs"
app = typer.Typer(no_args_is_help=True, add_completion=False)

ASeed = Annotated[int, typer.Option(help="Of arrivals, routing and failures.")]
ARouter = Annotated[str, typer.Option(help=", ".join(ROUTERS))]
AJson = Annotated[
    Path | None, typer.Option("--json", help="Write the figures there; - prints them instead of a table.")
]
AnSlo = Annotated[float, typer.Option(help="Times of what a picture takes alone, by which it is of use.", min=1)]


def _one_of(value: str, known: Mapping[str, Any], option: str) -> str:
    if value not in known:
        raise OptionError(f"--{option} is {value!r:.60}", remedy=f"Say one of {', '.join(known)}", option=option)
    return value


def _told(facts: Any, table: Table, json_file: Path | None) -> None:
    if json_file == Path("-"):
        print(text(facts))
        return
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if json_file is not None:
        write(json_file, facts)


def _needed(need: Need) -> tuple[str, ...]:
    """Columns of the table of replicas."""
    work, name = need.work, f"{need.rate:g}"
    first = (
        need.device,
        need.mix,
        f"{work.rows:g}",
        *(f"{1000 * each:.4g}" for each in (work.alone, work.least, work.timely)),
    )
    bound = f"{need.bound:.3g}" if need.bound < 1000 else f"{need.bound:.0f}"
    if need.gpus is None:
        return (*first, name, bound, f"> {MOST}", "", "", "")
    return (
        *(*first, name, bound, str(need.gpus), f"{need.utilisation:.0%}"),
        *(f"{need.slowdown_p95:.2f}", f"{need.in_time:.1%}"),
    )


@app.command()
def plan(
    device: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(FLEETS)}; FIXED+PER_ROW milliseconds; a .json of --simulate or tune. Repeatable."
        ),
    ] = None,
    mix: Annotated[list[str] | None, typer.Option(help=f"{', '.join([*PRESETS, *MIXES])}. Repeatable.")] = None,
    rate: Annotated[list[float] | None, typer.Option(help="Requests a second. Repeatable.", min=1e-6)] = None,
    router: ARouter = "least-work",
    slo: AnSlo = SLO,
    seed: ASeed = 0,
    json_file: AJson = None,
) -> None:
    """The fewest replicas of which 99 % of all requests are in time, beside the arithmetic. Poisson arrivals."""
    _one_of(router, ROUTERS, "router")
    mixes = [_one_of(each, {**PRESETS, **MIXES}, "mix") for each in mix or MIXES_OF_PAGE]
    devices = {each: named(each) for each in device or FLEETS}
    needs = []
    table = Table("device", "mix", "rows", "alone ms", "least ms", "timely ms", "req/s", "bound", "GPUs")
    for column in ("busy", "p95 slowdown", "in time"):
        table.add_column(column)
    table.title = f"fewest GPUs of which {GOAL:.0%} of all requests take at most {slo:g} x alone, {router}, seed {seed}"
    for name, known in devices.items():
        for kind in mixes:
            for often in rate or RATES_OF_PAGE:
                needs.append(need(name, known, kind, often, seed, router=router, slo=slo))
                table.add_row(*_needed(needs[-1]), end_section=often == (rate or RATES_OF_PAGE)[-1])
    _told({"slo": slo, "goal": GOAL, "seed": seed, "needs": needs}, table, json_file)


@app.command("run")
def run_(
    device: Annotated[str, typer.Option(help="As of `plan`.")] = "a100",
    mix: Annotated[str, typer.Option(help="As of `plan`.")] = "exact",
    rate: Annotated[float | None, typer.Option(help="Requests a second, on average; 1, or the trace's own.")] = None,
    seconds: Annotated[float, typer.Option(help="How long requests come.", min=1)] = 600.0,
    pattern: Annotated[str, typer.Option(help=", ".join(PATTERNS))] = "poisson",
    trace: Annotated[
        Path | None, typer.Option(help="A trace as `pixrt serve --simulate` reads it, in place of pattern and mix.")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Of the beginning.", min=1)] = 1,
    router: ARouter = "least-work",
    slo: AnSlo = SLO,
    scale_to: Annotated[int | None, typer.Option(help="As many replicas as are needed, up to this number.")] = None,
    target: Annotated[
        float, typer.Option(help="Work that each is to have before it, in times of a picture alone.")
    ] = 1,
    up_seconds: Annotated[float, typer.Option(help="Until more are started.")] = UP_S,
    down_seconds: Annotated[float, typer.Option(help="Until some are drained.")] = DOWN_S,
    start_seconds: Annotated[float, typer.Option(help="Until a new one answers: a cold start.")] = START_S,
    failure_hours: Annotated[float | None, typer.Option(help="Hours between two deaths of one replica.")] = None,
    seed: ASeed = 0,
    json_file: AJson = None,
) -> None:
    """What becomes of all requests of a trace on one fleet."""
    _one_of(router, ROUTERS, "router")
    _one_of(pattern, PATTERNS, "pattern")
    known = named(device)
    if trace is not None:
        traffic = replay(known, trace, rate, seed, slo)
    else:
        _one_of(mix, {**PRESETS, **MIXES}, "mix")
        traffic = ask(known, mix, rate or 1.0, seconds, seed, pattern=pattern, slo=slo)
    if not traffic.arrivals:
        raise OptionError("nobody asks for anything", remedy="Give a greater --rate, or more --seconds")
    work = work_of(traffic)
    scaling = None
    if scale_to is not None:
        most = max(scale_to, replicas)
        scaling = Scaling(replicas, most, target * work.alone, up_seconds, down_seconds, start_seconds)
    failures = None if failure_hours is None else Failures(3600 * failure_hours, start_s=start_seconds)
    found = figures(run(Fleet(replicas, router, scaling, failures), traffic, seed))
    asked = found["requests"] / max(traffic.arrivals[-1].at, 1e-9)
    arithmetic = {"rate": asked, "alone_s": work.alone, "least_s": work.least, "bound": asked * work.least}
    table = Table(
        "figure", "", title=f"{device}, {trace.name if trace else f'{mix}, {pattern}'}, {router}, seed {seed}"
    )
    for name, value in {**arithmetic, **found}.items():
        is_count = math.isnan(value) or value == round(value)
        table.add_row(name.replace("_", " "), f"{value:g}" if is_count else f"{value:.4g}")
    _told({**arithmetic, **found}, table, json_file)


@app.command()
def results(
    into: Annotated[Path, typer.Option(help="A folder for results/fleet*.json and images/fleet-*.svg.")] = DOCS,
    seed: ASeed = 0,
    plots_only: Annotated[bool, typer.Option(help="Draw what results/ says again.")] = False,
) -> None:
    """What docs/fleet.md says: its figures and its pictures. `python docs/tables.py` writes the tables then."""
    from fleets import plots

    def kept(name: str) -> Path:
        return into / "results" / f"{name}.json"

    def refuse(problem: str) -> OptionError:
        return OptionError(problem, remedy="Leave --plots-only out")

    if not plots_only:
        for name, facts in results_of(seed, say=lambda line: print(line, flush=True)).items():
            write(kept(name), facts)
    plots.growth(read_json(kept("fleet"), refuse=refuse), into / "images" / "fleet-growth.svg")
    plots.day(read_json(kept("fleet-days"), refuse=refuse), into / "images" / "fleet-day.svg")


def main() -> None:
    try:
        app()
    except PixrtError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
