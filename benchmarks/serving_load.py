"""The scheduler of `pixrt serve` under load, in virtual time, on three published devices, beside three common ways.

    python benchmarks/serving_load.py [--quick] [--live stand-in|shapes]

Poisson arrivals at 30, 60 and 90 % of what a device makes one at a time, then at 120 %, where each picture has a
deadline: 3, 6 or 12 times what it takes alone. Devices and mixes: `pixrt.serve.devices`, `loads.traffic`. It ends with
1 if a goal of the end is missed. `--live` sends the same arrivals to a real server, see `loads.live`.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from loads.deciding import thoughts
from loads.ideal import most_work, with_hindsight
from loads.live import live
from loads.policies import POLICIES, ours
from loads.traffic import MIXES, poisson, varying
from pixrt.dispatch.simulation import Simulated
from pixrt.serve.devices import DEVICES
from pixrt.serve.simulate import figures, percentile

LOADS, OVERLOAD = (0.3, 0.6, 0.9), 1.2
PATIENCES = {"edits": (3.0, 6.0, 12.0), "public": (3.0, 6.0)}
_COUNTS = {0.3: 1500, 0.6: 2000, 0.9: 6000, OVERLOAD: 600}  # arrivals of each seed
_SCALES = {"edits": 1.0, "public": 0.08}  # many steps, in turns: slow to simulate
# Arrivals of which the best are chosen, and of which the bound is found, by deadline: slow, the more of them are there.
_HINDSIGHT, _BOUND = 60, {3.0: 500, 6.0: 300, 12.0: 150}
_CHOOSING = {("edits", 3.0), ("edits", 6.0)}  # where that is done: beyond it the bound is near enough
console = Console(width=None if sys.stdout.isatty() else 130)


@dataclass(frozen=True)
class Goal:
    """What the issue asks for, and what was reached."""

    name: str
    reached: str
    is_met: bool


def pooled(parts: Sequence[Simulated]) -> Simulated:
    """Several runs as one."""
    outcomes = tuple(outcome for part in parts for outcome in part.outcomes)
    return Simulated(
        outcomes,
        sum(part.end for part in parts),
        sum(part.busy for part in parts),
        sum(part.calls for part in parts),
        sum(part.rows for part in parts),
    )


Runs = dict[tuple[str, str, float, str], list[Simulated]]  # by device, mix, load and policy: one for each seed


def below_capacity(seeds: int, scale: float) -> Runs:
    """Everything that can be made is: the table of loads below 100 %."""
    runs: Runs = {}
    for mix in MIXES:
        table = Table(
            "device", "load", "policy", "pictures/s", "p50 s", "p99 s", "by seed", "slowdown p99", "within 3x"
        )
        table.title = f"mix: {mix}, {seeds} seeds together"
        for name, device in DEVICES.items():
            for load in LOADS:
                traffics = [
                    poisson(device, mix, load, int(scale * _SCALES[mix] * _COUNTS[load]), seed) for seed in range(seeds)
                ]
                for policy, made in POLICIES.items():
                    parts = runs[name, mix, load, policy] = [made(traffic) for traffic in traffics]
                    found = figures(pooled(parts))
                    each = [figures(part)["p99"] for part in parts]
                    table.add_row(
                        *(name, f"{load:.0%}", policy, f"{found['per_second']:.3f}", f"{found['p50']:.2f}"),
                        *(f"{found['p99']:.2f}", f"{min(each):.1f}..{max(each):.1f}", f"{found['slowdown_p99']:.1f}"),
                        f"{found['within_3']:.1%}",
                        end_section=policy == "pixrt",
                    )
        console.print(table)
    return runs


def goals_below(runs: Runs) -> Iterator[Goal]:
    def ratio(name: str, load: float, figure: str) -> tuple[float, str]:
        pairs = [runs[name, "edits", load, policy] for policy in ("pixrt", "one at a time")]
        both = [figures(pooled(parts))[figure] for parts in pairs]
        each = [figures(mine)[figure] / figures(other)[figure] for mine, other in zip(*pairs, strict=True)]
        return both[0] / both[1], f"{both[0] / both[1]:.3f} x (by seed {min(each):.2f}..{max(each):.2f})"

    for name, load, figure, most in (
        ("a100", 0.9, "p99", 0.6),
        ("a100", 0.9, "slowdown_p99", 0.15),
        ("proportional", 0.9, "p99", 1.05),
        ("proportional", 0.6, "p99", 1.25),
        ("proportional", 0.3, "p99", 1.25),
    ):
        value, told = ratio(name, load, figure)
        what = figure.replace("_", " ")
        yield Goal(f"{name} at {load:.0%}: {what} at most {most:g} x of one at a time", told, value <= most)
    for name in DEVICES:
        made = pooled(runs[name, "edits", 0.3, "pixrt"]).outcomes
        value = percentile([each.latency for each in made], 0.5) / percentile([each.alone for each in made], 0.5)
        yield Goal(f"{name} at 30%: p50 within 5 % of an idle server", f"{value - 1:+.1%}", value <= 1.05)


def overloaded(seeds: int, scale: float) -> Iterator[Goal]:
    """At 120 %, with deadlines: what is made in time, beside what can be."""
    for mix in MIXES:
        table = Table(
            "device", "deadline", "goodput", "of hindsight", "of the bound", "accepted", "in time", "if it varies"
        )
        table.title = f"mix: {mix}, at {OVERLOAD:.0%} of one at a time"
        for name, device in DEVICES.items():
            for patience in PATIENCES[mix]:
                count = int(scale * _SCALES[mix] * _COUNTS[OVERLOAD]) + _HINDSIGHT
                traffics = [poisson(device, mix, OVERLOAD, count, seed, patience) for seed in range(seeds)]
                whole = pooled([ours(traffic) for traffic in traffics])
                noisy = pooled([ours(traffic, takes=varying(traffic, 0.1)) for traffic in traffics])
                long = poisson(device, mix, OVERLOAD, int(scale * _BOUND[patience]), 1, patience)
                of_bound = of_best = work_of(ours(long)) / most_work(long)
                if is_chosen := (mix, patience) in _CHOOSING:
                    short = [poisson(device, mix, OVERLOAD, _HINDSIGHT, seed, patience) for seed in range(seeds)]
                    of_best = sum(work_of(ours(each)) for each in short) / sum(map(with_hindsight, short))
                accepted = [each for each in whole.outcomes if each.refusal is None]
                table.add_row(
                    *(
                        name,
                        f"{patience:g}x",
                        f"{work_of(whole) / whole.end:.3f}",
                        f"{of_best:.1%}" if is_chosen else "",
                    ),
                    *(f"{of_bound:.1%}", f"{len(accepted) / len(whole.outcomes):.1%}", f"{kept(whole):.2%}"),
                    f"{kept(noisy):.2%}",
                    end_section=patience == PATIENCES[mix][-1],
                )
                where = f"{name}, {mix}, deadline {patience:g}x"
                if mix == "edits":  # with few large pictures the one that came first may be the wrong one
                    ideal = "hindsight's" if is_chosen else "the bound"
                    yield Goal(f"{where}: goodput at least 95 % of {ideal}", f"{of_best:.1%}", of_best >= 0.95)
                least = min(kept(whole), kept(noisy))
                yield Goal(f"{where}: 99 % of the accepted in time", f"{least:.2%}", least >= 0.99)
        console.print(table)
    console.print(
        "goodput: work made in time, in times of one device's, one at a time. hindsight: the same scheduler if it may\n"
        "choose who comes from all who ever will (60 arrivals of each seed). bound: no schedule exceeds it. in time:\n"
        "of the accepted; if it varies: calls differ by 10 % (lognormal) from what was measured.\n"
    )


def work_of(simulated: Simulated) -> float:
    """Seconds of work that was made in time."""
    return sum(each.alone for each in simulated.outcomes if each.in_time)


def kept(simulated: Simulated) -> float:
    """The share of the accepted that are in time."""
    accepted = [each for each in simulated.outcomes if each.refusal is None]
    return sum(each.in_time for each in accepted) / len(accepted)


def deciding() -> Iterator[Goal]:
    """The time of a core that decisions take here."""
    for mix in MIXES:
        for thought in thoughts(mix):
            yield Goal(
                f"{thought.name}, 64 pictures ({mix}): {thought.limit:g} ms",
                f"{thought.typical:.3g} ms, at most {thought.most:.3g}",
                thought.typical <= thought.limit,
            )


def main(
    quick: Annotated[bool, typer.Option(help="Short arrivals of two seeds: p99 is rough.")] = False,
    live_on: Annotated[
        Literal["stand-in", "shapes"] | None,
        typer.Option(
            "--live",
            help="Ask a real server instead: with an engine that takes its time, or the model of drawn scenes.",
        ),
    ] = None,
) -> None:
    if live_on is not None:
        raise typer.Exit(int(not live(live_on, quick=quick, console=console)))
    began, seeds, scale = time.monotonic(), 2 if quick else 3, 0.2 if quick else 1.0
    goals = list(goals_below(below_capacity(seeds, scale)))
    goals += overloaded(seeds, scale)
    goals += deciding()
    table = Table("goal", "reached", "")
    for goal in goals:
        table.add_row(goal.name, goal.reached, "met" if goal.is_met else "MISSED")
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s")
    raise typer.Exit(int(not all(goal.is_met for goal in goals)))


if __name__ == "__main__":
    typer.run(main)
