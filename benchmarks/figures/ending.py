"""How the server ends, and how it goes on if its worker does not: SIGTERM, SIGKILL of the worker, SIGSTOP of it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from figures.admission import edit
from figures.leaving import until
from figures.process import Served, stand_in, total
from figures.rows import Finding, Row, timed
from figures.wire import Answer, Connection, once, request, run

READY = request("/health/ready", method="GET")
SLOTS, ACCEPTED = 3, 8
AT_ONCE_MS = 50.0
RELOAD_SECONDS = 2.0  # beyond what loading takes
STUCK_SECONDS = 2.0
CODEC_SECONDS = 30.0  # in which a codec must have finished, whatever --stuck-seconds says: a picture may be large
RETRIES = 2  # of the openai SDK, which obeys Retry-After


def shutdown(quick: bool) -> Row:
    """SIGTERM with three pictures on their way and five that wait."""
    flags = (*stand_in(200), "--max-batch", str(SLOTS), "--queue", str(ACCEPTED - SLOTS))
    with Served(*flags) as server:
        answers, not_ready, late = run(lambda: _ended(server))
        code = server.ended()
    first = next((ms for ms, status in not_ready if status == 503), float("inf"))
    return Row(
        "shutdown",
        f"SIGTERM with {SLOTS} in flight and {ACCEPTED - SLOTS} queued: ready goes 503 at once, all {ACCEPTED} finish,"
        " exit status 0",
        (
            timed(f"ready is 503 after {first:.1f} ms", first <= AT_ONCE_MS),
            Finding(f"a new request gets {late.status}", late.status == 503),
            Finding(
                f"{sum(answer.status == 200 for answer in answers)} of {ACCEPTED} finished",
                all(answer.status == 200 for answer in answers),
            ),
            Finding(f"exit status {code}", code == 0),
        ),
    )


async def _ended(server: Served) -> tuple[list[Answer], list[tuple[float, int]], Answer]:
    """The answers of all pictures; what readiness said how many milliseconds after the signal; one that came late."""
    watcher, probe, newcomer, *others = [await Connection.to(server.port) for _ in range(ACCEPTED + 3)]
    await probe.ask(READY)
    asked = [connection.ask(edit(seed, num_inference_steps=4)) for seed, connection in enumerate(others)]
    await until(watcher, "pixrt_pictures_running", SLOTS)
    await until(watcher, "pixrt_pictures_waiting", ACCEPTED - SLOTS)
    server.send_signal(signal.SIGTERM)
    sent, told = time.monotonic(), list[tuple[float, int]]()
    while not told or (told[-1][1] == 200 and told[-1][0] < 1000):
        answer = await probe.ask(READY)
        told.append((1000 * (answer.came - sent), answer.status))
    late = await newcomer.ask(edit(99))
    return list(await asyncio.gather(*asked)), told, late


@dataclass
class _Retrying:
    """What clients saw that send again as the openai SDK does."""

    firsts: Counter[int] = field(default_factory=Counter)  # statuses of first attempts
    lasts: Counter[int] = field(default_factory=Counter)  # of the last ones
    lost: list[Answer] = field(default_factory=list)  # answers to what was under way when the worker ended


def killed(quick: bool) -> Row:
    """SIGKILL of the worker while clients that retry keep it busy."""
    flags = (*stand_in(25), "--max-batch", "4", "--queue", "12")
    load = _load_seconds(*flags)
    with Served(*flags) as server:
        seen, again = run(lambda: _keep_asking(server, 3.0 if quick else 8.0))
        restarts = total(server.metrics(), "pixrt_worker_restarts_total", reason="died")
    waits = [int(answer.headers.get("retry-after", 0)) for answer in seen.lost]
    return Row(
        "SIGKILL of the worker under load",
        f"in flight: 503 with Retry-After; ready again within its load time + {RELOAD_SECONDS:g} s; a client that"
        " retries succeeds",
        (
            Finding(f"{len(seen.lost)} in flight got 503", bool(seen.lost)),
            Finding(f"Retry-After {min(waits, default=0)} s", bool(waits) and min(waits) > 0),
            timed(f"ready again in {again:.2f} s, loading takes {load:.1f} s", again <= load + RELOAD_SECONDS),
            Finding(
                f"{sum(seen.lasts.values())} requests, of which in the end {_spelt(seen.lasts)}",
                set(seen.lasts) == {200},
            ),
            Finding(f"{restarts:g} restart", restarts == 1),
        ),
    )


async def _keep_asking(server: Served, seconds: float) -> tuple[_Retrying, float]:
    """Eight clients; the worker is killed after a third of the time. Seconds until it is ready again."""
    seen, worker = _Retrying(), server.worker
    ends = time.monotonic() + seconds

    async def client(seed: int) -> None:
        while time.monotonic() < ends:
            for attempt in range(RETRIES + 1):
                answer = await once(server.port, edit(seed, num_inference_steps=8))
                if attempt == 0:
                    seen.firsts[answer.status] += 1
                if answer.status == 503 and answer.json["error"]["code"] == "worker_lost":
                    seen.lost.append(answer)
                if answer.status not in (0, 408, 409, 429, 503) or attempt == RETRIES:
                    break
                await asyncio.sleep(float(answer.headers.get("retry-after", 0.5)))
            seen.lasts[answer.status] += 1

    clients = [asyncio.create_task(client(seed)) for seed in range(8)]
    await asyncio.sleep(seconds / 3)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    again = await _ready_again(server.port, time.monotonic())
    await asyncio.gather(*clients)
    return seen, again


async def _ready_again(port: int, since: float) -> float:
    """Seconds until the server is ready, after it was seen not to be."""
    connection, was_down = await Connection.to(port), False
    async with asyncio.timeout(60):
        while True:
            answer = await connection.ask(READY)
            was_down |= answer.status == 503
            if was_down and answer.status == 200:
                return time.monotonic() - since
            await asyncio.sleep(0.005)


def stuck(quick: bool) -> Row:
    """A worker that is stopped: while it makes a picture, and while it has nothing to do until it is asked."""
    flags = (*stand_in(20), "--max-batch", "4", "--stuck-seconds", str(STUCK_SECONDS))
    load = _load_seconds(*flags)
    findings = []
    with Served(*flags) as server:
        for name, steps, found in (("while it works", 100, STUCK_SECONDS), ("while idle", 0, CODEC_SECONDS)):
            limit = found + load + RELOAD_SECONDS
            answers, again, good = run(lambda: _stopped(server, steps))  # noqa: B023  # called here
            told = [answer.status == 503 and int(answer.headers.get("retry-after", 0)) > 0 for answer in answers]
            findings += [
                Finding(f"{name}: {sum(told)} of {len(told)} get 503 with Retry-After", all(told)),
                timed(f"ready again in {again:.1f} s of {limit:.1f}", again <= limit),
                Finding(f"an edit afterwards: {good.status}", good.status == 200),
            ]
        restarts = total(server.metrics(), "pixrt_worker_restarts_total", reason="stuck")
    return Row(
        "stuck worker",
        f"SIGSTOP, --stuck-seconds {STUCK_SECONDS:g}: found, ended, ready again within its load time ({load:.1f} s) +"
        f" {RELOAD_SECONDS:g} s",
        (*findings, Finding(f"{restarts:g} restarts told as stuck", restarts == 2)),
    )


async def _stopped(server: Served, steps: int) -> tuple[list[Answer], float, Answer]:
    """Stop the worker while it makes two pictures of so many steps, 0 is before it is asked for them."""
    worker, watcher = server.worker, await Connection.to(server.port)
    assert worker is not None
    if not steps:
        os.kill(worker, signal.SIGSTOP)
    asked = [asyncio.create_task(once(server.port, edit(seed, num_inference_steps=steps or 1))) for seed in range(2)]
    if steps:
        await until(watcher, "pixrt_pictures_running", 2)
        os.kill(worker, signal.SIGSTOP)
    stopped = time.monotonic()
    async with asyncio.timeout(60):
        answers = list(await asyncio.gather(*asked))
    again = await _ready_again(server.port, stopped)
    return answers, again, await once(server.port, edit(5))


def _load_seconds(*flags: str) -> float:
    """How long a worker with these flags takes to be ready, as `--check` says."""
    command = [sys.executable, "-m", "pixrt", "serve", "--check", "--bundle", "shapes", "--port", "0", *flags]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"open in: ([0-9.]+) s", said)
    assert found is not None, said
    return float(found[1])


def _spelt(counts: Counter[int]) -> str:
    return ", ".join(f"{count} got {status}" for status, count in sorted(counts.items()))
