"""What docs/fleet.md says, worked out anew: the table of GPUs, routers, a day, bursts, failures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fleets.asking import ask
from fleets.devices import FLEETS
from fleets.figures import SLO, figures
from fleets.routing import ROUTERS
from fleets.running import Failures, Fleet, Look, run
from fleets.scaling import Scaling
from fleets.sizing import GOAL, Need, need

MIXES, RATES = ("exact", "fast", "turbo"), (1.0, 100.0, 1000.0)
_DEVICE, _MIX = "a100", "exact"  # of everything but the table
_GROWTH = (3.0, 10.0, 30.0, 300.0)
_DAY_RATE, _DAY_S, _BURSTS_S, _DEATHS_S = 10.0, 7200.0, 3600.0, 600.0
_HOUR_S = 3600.0
_POINTS = 90  # of the picture of a day
_KEPT = ("requests", "made", "refused", "retried", "deaths", "in_time", "utilisation", "gpu_seconds", "most_gpus")

Say = Callable[[str], None]


def results(seed: int, say: Say) -> dict[str, Any]:
    """By file of docs/results. The same seed gives the same."""

    def needed(name: str, mix: str, rate: float, router: str = "least-work") -> Need:
        say(f"{name}, {mix}, {rate:g} requests a second, {router}")
        return need(name, FLEETS[name], mix, rate, seed, router=router)

    needs = [needed(name, mix, rate) for name in FLEETS for mix in MIXES for rate in RATES]
    growth = [needed(_DEVICE, mix, rate) for mix in MIXES for rate in _GROWTH]
    growth += [each for each in needs if each.device == _DEVICE]
    routed = [needed(_DEVICE, "edits", rate, router) for rate in (10.0, 100.0) for router in ROUTERS]
    (enough,) = {each.gpus for each in needs if (each.device, each.mix, each.rate) == (_DEVICE, _MIX, 100.0)}
    assert enough is not None
    return {
        "fleet": {"slo": SLO, "goal": GOAL, "seed": seed, "needs": needs, "growth": sorted(growth, key=_place)},
        "fleet-routers": routed,
        "fleet-days": _days(seed, say),
        "fleet-deaths": _deaths(seed, enough, say),
    }


def _place(need: Need) -> tuple[str, float]:
    return need.mix, need.rate


def _days(seed: int, say: Say) -> dict[str, Any]:
    """A day in two hours, then bursts: a fixed fleet beside those that grow; looks at one of these."""
    lines, looks = list[Mapping[str, Any]](), list[Look]()
    for pattern, seconds in (("diurnal", _DAY_S), ("bursty", _BURSTS_S)):
        traffic = ask(FLEETS[_DEVICE], _MIX, _DAY_RATE, seconds, seed, pattern=pattern)
        alone = traffic.load / _DAY_RATE
        fixed = math.ceil(need(_DEVICE, FLEETS[_DEVICE], _MIX, 1.8 * _DAY_RATE, seed).gpus or 0)
        growing = Scaling(2, 3 * fixed, alone)
        fleets = {
            f"fixed, {fixed}": Fleet(fixed),
            "grows, 60 s": Fleet(fixed // 2, scaling=growing),
            "grows, 300 s": Fleet(fixed // 2, scaling=replace(growing, start_s=300.0)),
            "grows early, 60 s": Fleet(fixed // 2, scaling=replace(growing, target_s=0.6 * alone)),
        }
        for name, fleet in fleets.items():
            say(f"{pattern}: {name}")
            ran = run(fleet, traffic, seed)
            lines.append({"pattern": pattern, "fleet": name, **_some(figures(ran))})
            if pattern == "diurnal" and name == "grows, 60 s":
                looks = ran.looks[:: math.ceil(len(ran.looks) / _POINTS)]
    return {"rate": _DAY_RATE, "days": lines, "looks": looks}


def _deaths(seed: int, enough: int, say: Say) -> list[Mapping[str, Any]]:
    """A fleet that is just enough for 100 requests a second, and some more, each of which dies once an hour."""
    traffic = ask(FLEETS[_DEVICE], _MIX, 100.0, _DEATHS_S, seed)
    lines = list[Mapping[str, Any]]()
    for more in (0, 2, 4, 8):
        say(f"deaths: {enough} + {more}")
        ran = run(Fleet(enough + more, failures=Failures(_HOUR_S)), traffic, seed)
        lines.append({"replicas": enough, "more": more, **_some(figures(ran))})
    return lines


def _some(found: Mapping[str, float]) -> dict[str, float]:
    return {name: found[name] for name in _KEPT}
