"""`pixrt serve --simulate TRACE`: what a device, or several of them, would make of a trace of requests.

The server's own dispatcher and admission, in virtual time, on this device's costs or on stated ones.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.simulation import Arrival, Outcome, Simulated, Simulation
from pixrt.dispatch.turns import Rules
from pixrt.errors import OptionError
from pixrt.serve.devices import Device, device_of
from pixrt.serve.settings import Settings
from pixrt.serve.traces import Traced, read_trace

MOST = 5000  # requests of a trace that are used: the first ones
MOST_WORKERS = 256
_PATIENCE = 3.0  # times of what it takes alone: what is good enough, where a request does not say
_GOAL = 0.99


def main(
    settings: Settings,
    trace: Path,
    *,
    curve: str | None,
    load: float | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Simulate one worker, then more, until nearly all requests are done in time; print a line for each number.

    The figures come back, and the device's curve. Raises OptionError for a trace or a curve that cannot be understood.
    """
    device = device_of(settings, curve)
    traced = read_trace(trace, device.side)
    used = traced[:MOST]
    arrivals = _arrivals(used, device, settings, load)
    costs = device.costs({arrival.bucket for arrival in arrivals})
    offered = sum(costs.alone(arrival.bucket, arrival.rows) for arrival in arrivals) / _span(arrivals)
    say(f"trace: {trace.name}, {len(used)} of {len(traced)} requests over {_span(arrivals):.1f} s")
    say(f"device: {curve or 'this one'}, {', '.join(_described(device))}")
    say(f"load: {100 * offered:.0f} % of what one worker makes one at a time")
    say("")
    say(_HEADER)
    lines: list[dict[str, Any]] = []
    for workers in _numbers(lambda: bool(lines) and lines[-1]["in_time"] >= _GOAL):
        lines.append({"workers": workers, **figures(_shared(arrivals, workers, device, settings))})
        say(_line(lines[-1]))
        if workers >= MOST_WORKERS:
            break
    needed = min((line["workers"] for line in lines if line["in_time"] >= _GOAL), default=None)
    say("")
    told = f"{needed} worker{'s'[: needed != 1]}" if needed else f"more than {MOST_WORKERS} workers"
    say(f"needed: {told}, for {_GOAL:.0%} of all requests by their slo_ms, or within {_PATIENCE:g} x alone")
    report = {"trace": trace.name, "requests": len(used), "load": offered, "lines": lines, "needed": needed}
    return {**report, "curve": asdict(device)}


def figures(simulated: Simulated) -> dict[str, float]:
    """What the table says of a simulation. Times are seconds; shares are of all requests, also of those refused."""
    made = [outcome for outcome in simulated.outcomes if outcome.refusal is None]
    latencies = [outcome.latency for outcome in made]
    slowdowns = [outcome.slowdown for outcome in made]
    count = len(simulated.outcomes)
    return {
        "per_second": len(made) / simulated.end if simulated.end else 0.0,
        "busy": simulated.busy / simulated.end if simulated.end else 0.0,
        "p50": percentile(latencies, 0.5),
        "p99": percentile(latencies, 0.99),
        "slowdown_p99": percentile(slowdowns, 0.99),
        "within_3": sum(slowdown <= _PATIENCE for slowdown in slowdowns) / count,
        "refused": 1 - len(made) / count,
        "in_time": sum(_is_in_time(outcome) for outcome in made) / count,
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that is not below so many of them; nan without any."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def _is_in_time(outcome: Outcome) -> bool:
    return outcome.in_time if outcome.arrival.deadline is not None else outcome.slowdown <= _PATIENCE


def _arrivals(traced: Sequence[Traced], device: Device, settings: Settings, load: float | None) -> list[Arrival]:
    """Pictures with their times: the trace's own, stretched to a load; of a trace without times random ones."""
    slots, most_rows = settings.session.max_batch, settings.options.max_rows
    buckets = {
        size: Bucket(size, slots, most_rows, area=size[0] * size[1] / device.side**2, name=f"{size[0]}x{size[1]}")
        for size in {(each.width, each.height) for each in traced}
    }
    costs = device.costs(buckets.values())
    alone = sum(costs.alone(buckets[each.width, each.height], each.rows) for each in traced)
    times = [each.at or 0.0 for each in traced]
    if traced[0].at is None:
        if load is None:
            raise OptionError("the trace does not say when its requests come", remedy="Give --load, such as 0.9")
        drawn = random.Random(0)
        times = list(itertools.accumulate(drawn.expovariate(1.0) for _ in traced))
    if load is not None:
        if not 0 < load < math.inf:
            raise OptionError(f"load is {load}", remedy="It must be above 0, such as 0.9", option="load")
        if times[-1] <= 0:
            raise OptionError("all requests of the trace come at once, so there is no load", remedy="Leave --load out")
        factor = alone / load / times[-1]
        times = [factor * time for time in times]
    return [
        Arrival(
            time,
            buckets[each.width, each.height],
            each.rows,
            None if each.patience is None else time + each.patience,
        )
        for time, each in zip(times, traced, strict=True)
    ]


def _span(arrivals: Sequence[Arrival]) -> float:
    return max(arrivals[-1].at, 1e-9)


def _numbers(is_enough: Callable[[], bool]) -> Iterable[int]:
    """Numbers of workers to try: twice as many each time until they are enough, then halving the gap."""
    workers = 1
    yield workers
    while not is_enough():
        workers *= 2
        yield workers
    low, high = workers // 2, workers
    while high - low > 1:
        middle = (low + high) // 2
        yield middle
        low, high = (low, middle) if is_enough() else (middle, high)


def _shared(arrivals: Sequence[Arrival], workers: int, device: Device, settings: Settings) -> Simulated:
    """Workers that get requests in turn."""
    slots, queue, variants = settings.session.max_batch, settings.options.queue, settings.options.max_loras
    parts = []
    for first in range(workers):
        own = arrivals[first::workers]
        costs = device.costs({arrival.bucket for arrival in own})
        parts.append(Simulation(costs, Rules(variants=variants), seats=slots + queue).run(own))
    outcomes = tuple(outcome for part in parts for outcome in part.outcomes)
    busy = sum(part.busy for part in parts) / workers
    calls, rows = sum(part.calls for part in parts), sum(part.rows for part in parts)
    return Simulated(outcomes, max(part.end for part in parts), busy, calls, rows)


_HEADER = "workers   req/s   busy    p50 s    p99 s  slowdown p99  within 3x  refused  in time"


def _line(line: Mapping[str, float]) -> str:
    return (
        f"{line['workers']:7d} {line['per_second']:7.2f} {line['busy']:6.0%} {line['p50']:8.2f} {line['p99']:8.2f}"
        f" {line['slowdown_p99']:13.1f} {line['within_3']:10.1%} {line['refused']:8.1%} {line['in_time']:8.1%}"
    )


def _described(device: Device) -> Iterable[str]:
    for rows in (3, 12, 24):
        if rows in device.steps_ms:
            yield f"{device.steps_ms[rows]:.1f} ms a step of {rows} rows"
    yield f"{device.encode_ms + device.decode_ms:.1f} ms of VAE at {device.side} x {device.side}"
