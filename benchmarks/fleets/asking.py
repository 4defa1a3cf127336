"""What a fleet is asked for, and when: presets as pictures of so many rows a step, and patterns of arrivals."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loads.traffic import MIXES, MOST_ROWS, SLOTS, Traffic
from pixrt.bundles.manifest import Defaults
from pixrt.core.track import make_steps
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.simulation import Arrival
from pixrt.options.tasks import EditOptions
from pixrt.serve.devices import Device
from pixrt.serve.traces import read_trace

# An edit to which nothing is said: 20 steps with three branches. (A bundle may say more: InstructPix2Pix's own is 100.)
_EXACT = Defaults(20, 7.5, 1.5, "euler_ancestral")
_LEVERS = frozenset({"branch_interval"})  # what every bundle has: a shallow network is exported on demand
_SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
PRESETS: Mapping[str, EditOptions] = {
    "exact": EditOptions(),
    "fast": EditOptions(preset="fast"),
    "turbo": EditOptions(preset="turbo"),
    "quality": EditOptions(preset="quality"),
}

BURST, BURST_SHARE = 4.0, 0.1  # so many times as many arrivals, in this share of the time
SWING = 0.8  # of the mean, by which a day's hours differ from it


@dataclass(frozen=True, slots=True)
class Kind:
    """A picture: the rows of each step, and its area in times of the model's own; `share` of all are such."""

    rows: tuple[int, ...]
    share: float = 1.0
    size: float = 1.0


def rows_of(preset: str) -> tuple[int, ...]:
    """Rows of each step, out of the guidance's table, as `pixrt.editor.device.Device.bucket` tells the server."""
    steps = make_steps(PRESETS[preset].resolve(_EXACT, _LEVERS), _SCHEDULER)
    return tuple(map(len, steps.branches))


def kinds_of(mix: str) -> Sequence[Kind]:
    """A preset, or one of the load benchmark's mixes (`public`: the sizes and steps of the public diffusion trace)."""
    if mix in MIXES:
        return [Kind((kind.rows,) * kind.steps, kind.share, kind.size) for kind in MIXES[mix]]
    return [Kind(rows_of(mix))]


# When they come: seconds, increasing, about `rate` a second on average.
Pattern = Callable[[float, float, random.Random], Iterator[float]]


def even(rate: float, seconds: float, drawn: random.Random) -> Iterator[float]:
    """At equal distances, as in the public diffusion trace."""
    yield from (number / rate for number in range(int(rate * seconds)))


def poisson(rate: float, seconds: float, drawn: random.Random) -> Iterator[float]:
    """Nobody knows of another."""
    at = drawn.expovariate(rate)
    while at < seconds:
        yield at
        at += drawn.expovariate(rate)


def bursty(rate: float, seconds: float, drawn: random.Random) -> Iterator[float]:
    """Poisson arrivals of two rates: `BURST` times as many in `BURST_SHARE` of the time, about twenty times in all."""
    calm = rate * (1 - BURST * BURST_SHARE) / (1 - BURST_SHARE)
    at, is_burst = 0.0, False
    while at < seconds:
        length = drawn.expovariate(20 / seconds / (BURST_SHARE if is_burst else 1 - BURST_SHARE))
        end = min(seconds, at + length)
        yield from (at + more for more in poisson(BURST * rate if is_burst else calm, end - at, drawn))
        at, is_burst = end, not is_burst


def diurnal(rate: float, seconds: float, drawn: random.Random) -> Iterator[float]:
    """One day, from night to night: `SWING` below the mean at its ends, as much above it in the middle."""
    most = rate * (1 + SWING)
    for at in poisson(most, seconds, drawn):
        if most * drawn.random() < rate * (1 - SWING * math.cos(2 * math.pi * at / seconds)):
            yield at


PATTERNS: Mapping[str, Pattern] = {"even": even, "poisson": poisson, "bursty": bursty, "diurnal": diurnal}


def bucket_of(size: float, side: int) -> Bucket:
    """Pictures of `size` times the model's own side, with the slots and rows that a server has by default."""
    return Bucket(size, SLOTS, MOST_ROWS, area=size**2, name=f"{size * side:.0f}")


def ask(
    device: Device, mix: str, rate: float, seconds: float, seed: int, *, pattern: str = "poisson", slo: float | None = 3
) -> Traffic:
    """Arrivals at a fleet of such devices; with an `slo` each has a deadline, so many times what it takes alone.

    Their rate is `rate` exactly: what was drawn is stretched.
    """
    drawn, kinds = random.Random(seed), kinds_of(mix)
    times = list(PATTERNS[pattern](rate, seconds, drawn))
    times = [at * len(times) / (rate * seconds) for at in times]
    chosen = drawn.choices(kinds, [kind.share for kind in kinds], k=len(times))
    buckets = {kind.size: bucket_of(kind.size, device.side) for kind in kinds}
    asked = [(at, buckets[kind.size], kind.rows, None) for at, kind in zip(times, chosen, strict=True)]
    return _traffic(device, asked, slo)


def replay(device: Device, path: Path, rate: float | None, seed: int, slo: float | None = 3) -> Traffic:
    """The arrivals of a file, stretched to a rate; those of a file without times are Poisson's. See `serve.traces`.

    A request that says `slo_ms` keeps it. Raises OptionError.
    """
    traced, drawn = read_trace(path, device.side), random.Random(seed)
    times = [each.at for each in traced]
    if times[0] is None:
        often, now = rate or 1.0, 0.0
        times = [now := now + drawn.expovariate(often) for _ in traced]
    elif rate is not None:
        last = max(times[-1] or 0.0, 1e-9)
        times = [(at or 0.0) / last * len(traced) / rate for at in times]
    asked = []
    for at, each in zip(times, traced, strict=True):
        size = math.sqrt(each.width * each.height) / device.side
        asked.append((at or 0.0, bucket_of(size, device.side), each.rows, each.patience))
    return _traffic(device, asked, slo)


_Asked = tuple[float, Bucket, tuple[int, ...], float | None]  # when, what, and for how many seconds it is of use


def _traffic(device: Device, asked: Sequence[_Asked], slo: float | None) -> Traffic:
    costs = device.costs({bucket for _, bucket, _, _ in asked})
    arrivals, work = [], 0.0
    for at, bucket, rows, patience in asked:
        alone = costs.alone(bucket, rows)
        work += alone
        if patience is None and slo is not None:
            patience = slo * alone
        arrivals.append(Arrival(at, bucket, rows, None if patience is None else at + patience))
    return Traffic(device, arrivals, work / arrivals[-1].at if arrivals and arrivals[-1].at else 0.0)
