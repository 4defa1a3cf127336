"""Whether the metrics tell the truth: every request that was sent is counted once, by how it ended."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from figures.admission import edit
from figures.leaving import until
from figures.pictures import bomb_png, small_png
from figures.process import Served, outcomes, stand_in, total
from figures.rows import Finding, Row
from figures.wire import EDITS, GENERATIONS, JOBS, Connection, connected, once, request, run

SEATS = 8
LEFT = 499
FLAGS = (*stand_in(10), "--max-batch", "4", "--queue", "4", "--body-idle-seconds", "1", "--max-body-mib", "1")
Seen = Counter[int]
"""Statuses that clients saw, 499 for those that did not wait."""


def metrics_truth(quick: bool) -> Row:
    """Good, bad, slow, refused and vanishing requests together, then what the server has counted."""
    rounds = 3 if quick else 20
    with Served(*FLAGS) as server:
        seen = run(lambda: _mixed(server.port, rounds))
        metrics = server.metrics()
    counted = outcomes(metrics)
    different = {
        status: (seen[status], counted.get(status, 0))
        for status in sorted({*seen, *counted})
        if seen[status] != counted.get(status, 0)
    }
    pictures = {
        outcome: int(total(metrics, "pixrt_pictures_total", outcome=outcome))
        for outcome in ("done", "cancelled", "failed", "late", "out_of_memory")
    }
    refused = int(total(metrics, "pixrt_pictures_refused_total", code="queue_full"))
    waits = int(total(metrics, "pixrt_pictures_waiting") + total(metrics, "pixrt_pictures_running"))
    return Row(
        "metrics truth",
        "the sum over outcomes equals the requests sent, to the unit",
        (
            Finding(
                f"{sum(seen.values()):,} sent, {sum(counted.values()):,} counted", seen.total() == sum(counted.values())
            ),
            Finding(
                "by status: " + ", ".join(f"{count} x {status}" for status, count in sorted(counted.items())),
                not different,
            ),
            *(Finding(f"{status}: {a} seen, {b} counted", False) for status, (a, b) in different.items()),
            Finding(
                f"pictures: {pictures['done']} done, {pictures['cancelled']} cancelled",
                (pictures["done"], pictures["cancelled"]) == (seen[200] + seen[202], seen[LEFT] // 2) and not waits,
            ),
            Finding(f"{refused} refused because the queue was full", refused == seen[429]),
        ),
    )


async def _mixed(port: int, rounds: int) -> Seen:
    """Everything, in rounds; those that need room for themselves come in turn."""
    chance, seen = random.Random(1), Seen()
    for number in range(rounds):
        wires = _good(number) + _bad()
        chance.shuffle(wires)
        await _few_at_a_time(wires, lambda wire: _ask(port, wire, seen))
        await _refused(port, seen)
        await _leave_while_sending(port, seen)
        await _leave_while_made(port, seen)
    await _slow(port, seen)
    await _no_requests(port)
    return seen


async def _few_at_a_time(wires: list[bytes], use: Callable[[bytes], Awaitable[None]]) -> None:
    """No more than there are seats."""
    left = iter(wires)

    async def some() -> None:
        for wire in left:
            await use(wire)

    await asyncio.gather(*(some() for _ in range(SEATS)))


async def _ask(port: int, wire: bytes, seen: Seen) -> None:
    seen[(await once(port, wire)).status] += 1


def _good(number: int) -> list[bytes]:
    """Requests for a picture each that are answered by one."""
    few = {"prompt": "a circle", "num_inference_steps": 2, "seed": number}
    form = {"prompt": "make it red", "num_inference_steps": 3}
    return [
        edit(number),
        edit(number, num_inference_steps=4, output_format="jpeg"),
        request(GENERATIONS, as_json=few),
        request(EDITS, {**form, "stream": "true", "partial_images": 1}, {"image": small_png()}),
        request(JOBS, {"task": "edit", "prompt": "x", "steps": 2}, {"image": small_png()}),
    ]


def _bad() -> list[bytes]:
    """Requests that can never be answered by a picture."""
    picture = {"image": small_png()}
    few = {"prompt": "make it red", "num_inference_steps": 1}
    return [
        request(EDITS, {**few, "colour": "red"}, picture),
        request(EDITS, {**few, "num_inference_steps": "many"}, picture),
        request(EDITS, few),
        request(EDITS, few, {"image": b"no picture"}),
        request(EDITS, few, {"image": small_png()[:4000]}),
        request(EDITS, few, {"image": bomb_png()}),
        request(EDITS, few, {"image": bytes(2 << 20)}),
        request(EDITS, {**few, "model": "dall-e-3"}, picture),
        request(EDITS, {**few, "deadline_ms": 1}, picture),
        request(EDITS, method="GET"),
        request(GENERATIONS, as_json=[1]),
        request(f"{JOBS}/there-is-none", method="GET"),
        request("/nowhere", method="GET"),
        b"POST /v1/images/edits HTTP/1.1\r\nhost: elsewhere.example\r\ncontent-length: 0\r\n\r\n",
        b"this is no HTTP\r\n\r\n",
    ]


async def _refused(port: int, seen: Seen) -> None:
    """More at once than there are seats."""
    connections = await connected(port, 3 * SEATS)
    asked = [each.ask(edit(seed, num_inference_steps=5)) for seed, each in enumerate(connections)]
    for answer in await asyncio.gather(*asked):
        seen[answer.status] += 1
    for each in connections:
        each.leave()


async def _leave_while_sending(port: int, seen: Seen) -> None:
    for each in await connected(port, SEATS):
        wire = edit(1)
        each.send(wire[: wire.index(b"\r\n\r\n") + 500])
        await asyncio.sleep(0.01)
        each.leave()
        seen[LEFT] += 1


async def _leave_while_made(port: int, seen: Seen) -> None:
    """Half of them wait, and half are being made."""
    watcher = await Connection.to(port)
    connections = await connected(port, SEATS)
    for seed, each in enumerate(connections):
        each.ask(edit(seed, num_inference_steps=500))
    await until(watcher, "pixrt_pictures_running", SEATS // 2)
    await until(watcher, "pixrt_pictures_waiting", SEATS // 2)
    for each in connections:
        each.leave()
        seen[LEFT] += 1
    await until(watcher, "pixrt_pictures_running", 0)
    watcher.leave()


async def _slow(port: int, seen: Seen) -> None:
    """A body that pauses for longer than it may."""
    connections = await connected(port, SEATS)
    for answer in await asyncio.gather(*(each.ask(edit(1)[:4000]) for each in connections)):
        seen[answer.status] += 1


async def _no_requests(port: int) -> None:
    """Connections that say nothing, or not all of a head: nobody has asked for anything."""
    for each in await connected(port, SEATS):
        each.send(b"POST /v1/images/edits HTTP/1.1\r\nhost: 127")
        await asyncio.sleep(0.01)
        each.leave()
    for each in await connected(port, SEATS):
        each.leave()
    await asyncio.sleep(0.3)
