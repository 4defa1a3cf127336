"""The same arrivals at a real `pixrt serve`: what clients measure, beside what the simulation says.

The engine is one that computes nothing and takes the A100's times (the null backend), or the model `shapes` on this
machine, whose curve is measured first. Requests go over HTTP with a picture each; nobody waits for another's answer.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

from figures.pictures import small_png
from figures.process import Served, stand_in
from figures.wire import EDITS, Answer, once, request, run
from loads.policies import ours
from loads.traffic import Traffic, first, poisson
from pixrt.dispatch.simulation import Outcome
from pixrt.serve.devices import DEVICES, device_of
from pixrt.serve.settings import Settings
from pixrt.serve.simulate import percentile

REFUSAL_MS = 25.0
LOADS = ((0.3, None), (0.9, None), (1.2, 3.0))
_SCALES = {3: (7.5, 1.5), 2: (7.5, 1.0)}  # text and image: the rows that they ask for


@dataclass(frozen=True)
class Asked:
    """A picture of the traffic, what came back, and what the simulation says of it."""

    outcome: Outcome
    answer: Answer

    @property
    def is_made(self) -> bool:
        return self.answer.status == 200

    @property
    def seconds(self) -> float:
        return self.answer.ms / 1000


def live(on: Literal["stand-in", "shapes"], *, quick: bool, console: Console) -> bool:
    """Ask a real server; print the table. Whether refusals (their median) and deadlines were as they should be."""
    if on == "stand-in":
        device = DEVICES["a100"]
        row_ms = device.steps_ms[2] - device.steps_ms[1]
        flags = stand_in(device.fixed_ms, row_ms=row_ms, encode_ms=device.encode_ms, decode_ms=device.decode_ms)
    else:
        device, flags = device_of(Settings(bundle="shapes"), None), []
    table = Table("load", "deadline", "pictures", "", "p50 s", "p99 s", "slowdown p99", "accepted", "in time")
    table.add_column("refused in (median, most)")
    table.title = f"{on}: what clients of a real server measure, and what the simulation says"
    is_good = True
    with Served(*flags) as server:
        run(lambda: _asked(server.port, poisson(device, "edits", 0.3, 4, 9)))  # what is loaded at first is loaded
        for load, patience in LOADS:
            traffic = first(poisson(device, "edits", load, 1000, 1, patience), 20.0 if quick else 80.0)
            asked = run(lambda traffic=traffic: _asked(server.port, traffic))  # type: ignore[misc]
            made = [each for each in asked if each.is_made]
            simulated = [each.outcome for each in asked if each.outcome.refusal is None]
            refused = [each.answer.ms for each in asked if not each.is_made]
            in_time = [patience is None or each.seconds <= patience * each.outcome.alone for each in made]
            row = f"{load:.0%}", f"{patience:g}x" if patience else "none", str(len(asked)), "measured"
            within = f"{percentile(refused, 0.5):.0f}..{max(refused):.0f} ms" if refused else "none"
            pairs = [(each.seconds, each.seconds / each.outcome.alone) for each in made]
            kept = sum(in_time) / max(1, len(in_time))
            table.add_row(*row, *_told(pairs, len(asked)), f"{kept:.1%}", within)
            pairs = [(each.latency, each.slowdown) for each in simulated]
            table.add_row("", "", "", "simulated", *_told(pairs, len(asked)), "", "", end_section=True)
            is_good &= kept >= 0.99 and (not refused or percentile(refused, 0.5) <= REFUSAL_MS)
            strange = {each.answer.status for each in asked} - {200, 429, 504}
            assert not strange, strange
    console.print(table)
    return is_good


def _told(pairs: Sequence[tuple[float, float]], count: int) -> tuple[str, ...]:
    """Of latencies and slowdowns of those made, of so many."""
    latencies, slowdowns = ([pair[place] for pair in pairs] for place in (0, 1))
    return (
        *(f"{percentile(latencies, share):.2f}" for share in (0.5, 0.99)),
        f"{percentile(slowdowns, 0.99):.2f}",
        f"{len(pairs) / count:.1%}",
    )


async def _asked(port: int, traffic: Traffic) -> list[Asked]:
    """Send each picture when its time has come."""
    wires = []
    for number, arrival in enumerate(traffic.arrivals):
        text, image = _SCALES[arrival.rows[0]]
        fields = {"prompt": "make it red", "seed": number, "num_inference_steps": len(arrival.rows)}
        fields |= {"guidance_scale": text, "image_guidance_scale": image}
        if arrival.deadline is not None:
            fields["deadline_ms"] = round(1000 * (arrival.deadline - arrival.at))
        wires.append(request(EDITS, fields, {"image": small_png()}))
    asked: list[asyncio.Task[Answer]] = []
    began = time.monotonic()
    for arrival, wire in zip(traffic.arrivals, wires, strict=True):
        await asyncio.sleep(max(0.0, began + arrival.at - time.monotonic()))
        asked.append(asyncio.create_task(once(port, wire)))
    came = await asyncio.gather(*asked)
    return [Asked(*both) for both in zip(ours(traffic).outcomes, came, strict=True)]
