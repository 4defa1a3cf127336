"""Clients that go away: one that waits, one whose picture is being made, one beside others, and ten thousand."""

import asyncio
import base64
import random
import time
from dataclasses import dataclass

from figures.admission import edit
from figures.pictures import small_png
from figures.process import Served, outcomes, resident_mib, stand_in, total
from figures.rows import Finding, Row, timed
from figures.wire import EDITS, GENERATIONS, Answer, Connection, request, run
from pixrt import Editor

STEP_MS, STEPS = 200.0, 20
TRUSTED_MS = 11.0
MATES = {
    "dpmpp_2m": 20,
    "euler_ancestral": 16,
    "ddim": 14,
    "unipc": 12,
}  # solvers and steps of pictures that share calls
LEAVER = 0  # the first to begin: it is under way with whoever is
_STEPS_MADE = 'pixrt_call_rows_count{kind="step"}'
_PATIENCE = 30.0  # seconds
GROWTH_MIB = 1.0  # in a thousand aborts


@dataclass(frozen=True)
class _Left:
    """Milliseconds from a client's leaving until its picture was gone, and steps that ended after it."""

    ms: float
    steps: int


def disconnect(quick: bool) -> Row:
    """A client that waits leaves, then one whose picture is being made; and one of four that share calls."""
    with Served(*stand_in(STEP_MS), "--max-batch", "1", "--queue", "4") as server:
        queued, running, other = run(lambda: _leave(server))
    mates, rows = _mates()
    return Row(
        "client disconnect",
        f"Ray + HAProxy: {TRUSTED_MS:g} ms. Queued: removed at once; running: stops within one denoising step; batch"
        " mates unharmed",
        (
            timed(f"queued: gone in {queued.ms:.1f} ms", queued.ms <= 2 * TRUSTED_MS),
            Finding(f"the one that ran finished ({other.status})", other.status == 200),
            timed(f"running: gone in {running.ms:.1f} ms", running.ms <= 2 * TRUSTED_MS),
            Finding(f"{running.steps} of {STEPS} steps of {STEP_MS:g} ms ended after it", running.steps <= 1),
            Finding(f"{rows:.1f} rows a call with a real model", rows > 3),
            Finding(
                f"{sum(mates)} of {len(mates)} mates are their single edits, byte for byte", all(mates) and bool(mates)
            ),
        ),
    )


async def _leave(server: Served) -> tuple[_Left, _Left, Answer]:
    first, second, watcher = [await Connection.to(server.port) for _ in range(3)]
    await first.ask(edit(0))
    running = first.ask(edit(1, num_inference_steps=STEPS // 2))
    await until(watcher, "pixrt_pictures_running", 1)
    second.ask(edit(2))
    await until(watcher, "pixrt_pictures_waiting", 1)
    queued = await _left(second, watcher, "pixrt_pictures_waiting")
    other = await running
    third = await Connection.to(server.port)
    third.ask(edit(3, num_inference_steps=STEPS))
    await until(watcher, "pixrt_pictures_running", 1)
    return queued, await _left(third, watcher, "pixrt_pictures_running"), other


async def _left(leaver: Connection, watcher: Connection, gauge: str) -> _Left:
    """Leave when a step has just ended, and see when a gauge is 0."""
    steps = await _read(watcher, _STEPS_MADE)
    await until(watcher, _STEPS_MADE, steps + 1)
    left = time.monotonic()
    leaver.leave()
    came = await until(watcher, gauge, 0)
    await asyncio.sleep(2.5 * STEP_MS / 1000)
    return _Left(1000 * (came - left), int(await _read(watcher, _STEPS_MADE) - steps) - 1)


async def _read(watcher: Connection, name: str) -> float:
    """A metric, read quickly."""
    answer = await watcher.ask(request("/metrics", method="GET"))
    line = next((line for line in answer.body.decode().splitlines() if line.startswith(f"{name} ")), "0 0")
    return float(line.rpartition(" ")[2])


async def until(watcher: Connection, name: str, value: float) -> float:
    """Wait until a metric has this value, or more than that if it is not 0; when it was read. Raises TimeoutError."""
    async with asyncio.timeout(_PATIENCE):
        while (found := await _read(watcher, name)) != value and not 0 < value < found:
            await asyncio.sleep(0.001)
    return time.monotonic()


def _mates() -> tuple[list[bool], float]:
    """Whether those that stayed have the bytes of their single edits; rows of a call, in the mean."""
    with Served("--max-batch", str(len(MATES))) as server:
        answers = run(lambda: _together(server.port))
        metrics = server.metrics()
    with Editor("shapes") as editor:
        expected = [
            editor.edit(small_png(), "make it red", seed=seed, scheduler=solver, steps=steps).to_bytes("png")
            for seed, (solver, steps) in enumerate(MATES.items())
        ]
    same = [
        answer.status == 200 and base64.b64decode(answer.json["data"][0]["b64_json"]) == picture
        for place, (answer, picture) in enumerate(zip(answers, expected, strict=True))
        if place != LEAVER
    ]
    calls = total(metrics, "pixrt_call_rows_count", kind="step")
    return same, total(metrics, "pixrt_call_rows_sum", kind="step") / calls


async def _together(port: int) -> list[Answer]:
    watcher, *connections = [await Connection.to(port) for _ in range(len(MATES) + 1)]
    asked = [
        connection.ask(edit(seed, scheduler=solver, num_inference_steps=steps))
        for seed, (connection, (solver, steps)) in enumerate(zip(connections, MATES.items(), strict=True))
    ]
    await until(watcher, "pixrt_pictures_running", 2)
    await asyncio.sleep(0.1)
    connections[LEAVER].leave()
    return list(await asyncio.gather(*asked))


def abort_storm(quick: bool) -> Row:
    """Clients that leave at random moments: while they send, wait, are looked at, or their picture is being made."""
    count = 500 if quick else 10_000
    with Served(*stand_in(2.0), "--max-batch", "4", "--queue", "12") as server:
        worker = server.worker
        assert worker is not None
        run(lambda: _storm(server.port, count // 5, 0))
        before = [resident_mib(pid) for pid in (server.pid, worker)]
        run(lambda: _storm(server.port, count, 1))
        after = [resident_mib(pid) for pid in (server.pid, worker)]
        good = run(lambda: _good(server.port))
        metrics, same = server.metrics(), server.worker == worker
    growth = [1000 * (now - then) / count for then, now in zip(before, after, strict=True)]
    sent, counted = count + count // 5 + len(good), outcomes(metrics)
    busy = total(metrics, "pixrt_pictures_running") + total(metrics, "pixrt_pictures_waiting")
    accepted = {
        outcome: int(total(metrics, "pixrt_pictures_total", outcome=outcome))
        for outcome in ("done", "cancelled", "failed")
    }
    limit = GROWTH_MIB if not quick else 20 * GROWTH_MIB  # a few hundred are not enough for a slope
    return Row(
        "abort storm",
        f"{count:,} aborts: flat memory (rivals' trackers tell of memory lost with each), nothing poisoned",
        (
            *(
                Finding(f"{name} {then:.0f} -> {now:.0f} MiB ({slope:+.2f} a thousand)", slope <= limit)
                for name, then, now, slope in zip(("front", "worker"), before, after, growth, strict=True)
            ),
            Finding(f"a good edit afterwards: {good[-1].status}", good[-1].status == 200),
            Finding(f"{sum(counted.values()):,} of {sent:,} requests counted", sum(counted.values()) == sent),
            Finding(f"pictures: {', '.join(f'{n:,} {name}' for name, n in accepted.items())}", not accepted["failed"]),
            Finding("nothing left in the queue", busy == 0),
            Finding("the same worker", same),
        ),
    )


async def _good(port: int) -> list[Answer]:
    """A good edit, asked for until there is room."""
    connection, answers = await Connection.to(port), list[Answer]()
    while not answers or answers[-1].status == 429:
        await asyncio.sleep(0.1 * len(answers))
        answers.append(await connection.ask(edit(1)))
    return answers


async def _storm(port: int, count: int, seed: int) -> None:
    """So many requests whose clients leave, sixteen at a time; the whole head is sent of each."""
    chance = random.Random(seed)
    given = {"prompt": "make it red", "num_inference_steps": 30}
    wires = [
        request(EDITS, given, {"image": small_png()}),
        request(EDITS, {**given, "stream": "true", "partial_images": 2}, {"image": small_png()}),
        request(EDITS, {**given, "n": 2}, {"image": small_png(512)}),
        request(GENERATIONS, as_json=given),
    ]
    left = iter(range(count))

    async def leave() -> None:
        for _ in left:
            wire = chance.choice(wires)
            head = wire.index(b"\r\n\r\n") + 4
            connection = await Connection.to(port)
            connection.send(wire if chance.random() < 0.8 else wire[: chance.randint(head, len(wire) - 1)])
            await asyncio.sleep(chance.random() * 0.04)
            connection.leave()

    await asyncio.gather(*(leave() for _ in range(16)))
    await asyncio.sleep(0.5)
