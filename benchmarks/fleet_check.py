"""The simulation of a fleet beside a real one: two `pixrt serve`, engines that take a device's time, and a client.

    python benchmarks/fleet_check.py [--seconds 90]

Both servers run on loopback with an engine that computes nothing and takes `--slower` times the A100's times: what
the host adds to a step is a smaller part of it, also on a machine that others use. The client sends each request of
the same trace when its time has come, to the servers in turn, and waits for nobody. Once below what two devices can
make, then beyond it, where the queues are full and requests are refused. It ends with 1 if throughput or the 95th
percentile differ by more than `LIMIT`, or if a request was lost.
"""

import asyncio
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from figures.pictures import small_png
from figures.process import Served, stand_in
from figures.wire import EDITS, Answer, once, request, run
from fleets.asking import ask
from fleets.figures import figures
from fleets.reports import write
from fleets.running import Fleet
from fleets.running import run as simulate
from loads.traffic import SLOTS, Traffic
from pixrt.serve.devices import Device, stated
from pixrt.serve.simulate import percentile

LIMIT = 0.10
REPLICAS, QUEUE = 2, 4
LOADS = (0.8, 2.0)  # of what two devices make one at a time
# Text and image guidance that ask for so many rows. Of the presets it is the rows that matter, not the picture.
_SCALES = {3: (7.5, 1.5), 2: (1.5, 1.0)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What clients saw. Times are seconds; shares are of all requests."""

    per_second: float
    p50: float
    p95: float
    refused: int
    lost: int


def _picture(number: int) -> bytes:
    """Each another one: what a server has encoded it does not encode again."""
    picture = Image.open(io.BytesIO(small_png()))
    picture.putpixel((0, 0), (number % 256, number // 256 % 256, 0))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


async def _replay(ports: Sequence[int], traffic: Traffic) -> list[Answer]:
    """Send each picture when its time has come, to the servers in turn."""
    wires = []
    for number, arrival in enumerate(traffic.arrivals):
        text, image = _SCALES[arrival.rows[0]]
        fields = {"prompt": "make it red", "seed": number, "num_inference_steps": len(arrival.rows)}
        fields |= {"guidance_scale": text, "image_guidance_scale": image}
        wires.append(request(EDITS, fields, {"image": _picture(number)}))
    asked: list[asyncio.Task[Answer]] = []
    began = time.monotonic()
    for number, (arrival, wire) in enumerate(zip(traffic.arrivals, wires, strict=True)):
        await asyncio.sleep(max(0.0, began + arrival.at - time.monotonic()))
        asked.append(asyncio.create_task(once(ports[number % len(ports)], wire)))
    return list(await asyncio.gather(*asked))


def measured(answers: Sequence[Answer]) -> Measured:
    made = [answer for answer in answers if answer.status == 200]
    refused = sum(answer.status in (429, 504) for answer in answers)
    latencies = [answer.ms / 1000 for answer in made]
    span = max(answer.came for answer in made) - min(answer.asked for answer in answers)
    return Measured(
        *(len(made) / span, percentile(latencies, 0.5), percentile(latencies, 0.95)),
        *(refused, len(answers) - len(made) - refused),
    )


def flags(device: Device) -> list[str]:
    """Of a server whose engine takes the device's times."""
    row_ms = device.steps_ms[2] - device.steps_ms[1]
    engine = stand_in(device.fixed_ms, row_ms=row_ms, encode_ms=device.encode_ms, decode_ms=device.decode_ms)
    return [*engine, "--queue", str(QUEUE), "--max-batch", str(SLOTS)]


def main(
    seconds: Annotated[float, typer.Option(help="How long the trace is.", min=5)] = 90.0,
    slower: Annotated[float, typer.Option(help="Times of an A100's step.", min=0.1)] = 3.0,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
) -> None:
    console, table, is_good, lines = Console(width=None if sys.stdout.isatty() else 130), Table(), True, []
    for column in ("load", "requests", "", "pictures/s", "p50 s", "p95 s", "refused", "lost"):
        table.add_column(column)
    fixed_ms, row_ms = 7.5 * slower, 9.1 * slower
    curve = f"{fixed_ms:g} + {row_ms:g} x rows ms"
    table.title = f"{REPLICAS} servers, {curve} a step, mix edits, {seconds:g} s, seed {seed}"
    device = stated(fixed_ms, row_ms)
    with Served(*flags(device)) as one, Served(*flags(device)) as other:
        ports = one.port, other.port
        run(lambda: _replay(ports, ask(device, "edits", 4.0, 2.0, 9, slo=None)))  # what is loaded at first is loaded
        work = ask(device, "edits", 1.0, 4000.0, 0, slo=None).load  # seconds of work of a request
        for load in LOADS:
            traffic = ask(device, "edits", load * REPLICAS / work, seconds, seed, slo=None)
            real = measured(run(lambda traffic=traffic: _replay(ports, traffic)))  # type: ignore[misc]
            fleet = Fleet(REPLICAS, "round-robin", seats=SLOTS + QUEUE)
            told = figures(simulate(fleet, traffic, seed))
            off = real.per_second / told["per_second"] - 1, real.p95 / told["p95"] - 1
            is_good &= max(map(abs, off)) <= LIMIT and not real.lost
            row = f"{load:.0%}", str(len(traffic.arrivals))
            table.add_row(
                *(*row, "measured", f"{real.per_second:.3f}", f"{real.p50:.2f}", f"{real.p95:.2f}"),
                *(str(real.refused), str(real.lost)),
            )
            table.add_row(
                *("", "", "simulated", f"{told['per_second']:.3f}", f"{told['p50']:.2f}", f"{told['p95']:.2f}"),
                *(str(int(told["refused"])), "0"),
            )
            table.add_row("", "", "off by", f"{off[0]:+.1%}", "", f"{off[1]:+.1%}", "", "", end_section=True)
            simulated = {name: told[name] for name in ("per_second", "p50", "p95", "refused")}
            lines.append({"load": load, "requests": len(traffic.arrivals), "measured": real, "simulated": simulated})
    console.print(table)
    if json_file is not None:
        write(json_file, {"curve": curve, "replicas": REPLICAS, "seconds": seconds, "seed": seed, "loads": lines})
    raise typer.Exit(int(not is_good))


if __name__ == "__main__":
    typer.run(main)
