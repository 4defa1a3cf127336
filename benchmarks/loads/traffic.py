"""Who asks for what, and when: Poisson arrivals of two mixes, at a share of what a device makes one at a time."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.lane import Action, expected_seconds
from pixrt.dispatch.simulation import Arrival, Takes
from pixrt.serve.devices import Device

SLOTS, MOST_ROWS = 8, 24  # the server's own defaults


@dataclass(frozen=True, slots=True)
class Kind:
    """A picture: steps of so many rows, on a square of `size` times a model's own side; `share` of all are such."""

    share: float
    steps: int
    rows: int = 3
    size: float = 1.0


# The mix of the goals, and that of the public trace (Dit_Trace, sd3_trace.txt: 45,000 requests of 50 steps, a fifth of
# each size, at equal distances there).
MIXES: Mapping[str, Sequence[Kind]] = {
    "edits": (Kind(0.6, 20), Kind(0.2, 4, rows=2), Kind(0.2, 50)),
    "public": tuple(Kind(0.2, 50, size=side / 512) for side in (128, 256, 512, 1024, 1536)),
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Arrivals on a device; `load` is their work, one at a time, by their time."""

    device: Device
    arrivals: Sequence[Arrival]
    load: float

    @property
    def buckets(self) -> set[Bucket]:
        """Of all pictures."""
        return {arrival.bucket for arrival in self.arrivals}

    def costs(self) -> Costs:
        """The device, as the dispatcher knows it."""
        return self.device.costs(self.buckets)


def poisson(device: Device, mix: str, load: float, count: int, seed: int, patience: float | None = None) -> Traffic:
    """Arrivals of a mix; with a patience each has a deadline, so many times what it takes alone."""
    drawn, kinds = random.Random(seed), MIXES[mix]
    buckets = {
        size: Bucket(size, SLOTS, MOST_ROWS, area=size**2, name=f"{size * device.side:.0f}")
        for size in sorted({kind.size for kind in kinds})
    }
    costs = device.costs(buckets.values())
    alone = {kind: costs.alone(buckets[kind.size], (kind.rows,) * kind.steps) for kind in kinds}
    rate = load / sum(kind.share * alone[kind] for kind in kinds)
    at, arrivals = 0.0, []
    for kind in drawn.choices(kinds, [kind.share for kind in kinds], k=count):
        at += drawn.expovariate(rate)
        deadline = None if patience is None else at + patience * alone[kind]
        arrivals.append(Arrival(at, buckets[kind.size], (kind.rows,) * kind.steps, deadline))
    return Traffic(device, arrivals, load)


def first(traffic: Traffic, seconds: float) -> Traffic:
    """What comes in the first seconds, and one picture at least."""
    arrivals = [arrival for arrival in traffic.arrivals if arrival.at <= seconds] or traffic.arrivals[:1]
    return replace(traffic, arrivals=arrivals)


def varying(traffic: Traffic, spread: float, slower: float = 1.0) -> Takes:
    """A device whose calls differ from what was measured: lognormal, and all of them so many times as long."""
    drawn, costs = random.Random(0), traffic.costs()

    def takes(action: Action) -> float:
        return slower * expected_seconds(action, costs) * drawn.lognormvariate(0, spread)

    return takes
