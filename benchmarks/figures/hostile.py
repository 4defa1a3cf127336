"""Clients that mean harm: bodies that do not come to an end, and small files that are huge pictures."""

import asyncio
import time
from collections import Counter

from figures.admission import edit
from figures.pictures import BOMB_SIDE, bomb_png, small_png
from figures.process import Served, forget_most, outcomes, resident_mib, stand_in
from figures.rows import Finding, Row, timed
from figures.wire import EDITS, GENERATIONS, JOBS, Answer, connected, once, request, run

SLOW = 50
BOMB_MIB = BOMB_SIDE * BOMB_SIDE * 4 / 2**20
MOST_GROWTH_MIB = 8.0
SLACK_SECONDS = 2.0


def slow_bodies(quick: bool) -> Row:
    """Fifty bodies of which the second half does not come, and a good request meanwhile."""
    idle = 2.0 if quick else 10.0
    with Served(*stand_in(200), "--body-idle-seconds", f"{idle:g}") as server:
        answers, closed, good = run(lambda: _half_sent(server.port, idle))
        counted = outcomes(server.metrics())
    statuses = Counter(answer.status for answer in answers)
    return Row(
        "slow bodies",
        f"nginx: {SLOW} half-sent bodies all closed by the idle limit ({idle:g} s); a good request is served meanwhile",
        (
            timed(
                f"all closed after {min(closed):.1f} to {max(closed):.1f} s",
                idle - 0.1 <= min(closed) and max(closed) <= idle + SLACK_SECONDS,
            ),
            Finding(f"{statuses[408]} of {SLOW} told by 408", statuses == {408: SLOW}),
            Finding(f"a good request meanwhile: {good.status} in {good.ms:.0f} ms", good.status == 200),
            Finding(f"{counted.get(408, 0)} counted", counted == {408: SLOW, 200: 1}),
        ),
    )


async def _half_sent(port: int, idle: float) -> tuple[list[Answer], list[float], Answer]:
    """What the half-sent ones were told, seconds until each was closed, and the answer to the good one."""
    wire = edit(0)
    connections = await connected(port, SLOW)
    began = time.monotonic()
    asked = [connection.ask(wire[: len(wire) // 2]) for connection in connections]
    await asyncio.sleep(idle / 3)
    good = await once(port, edit(1))
    async with asyncio.timeout(idle + 20):
        closed = [await connection.closed - began for connection in connections]
    return list(await asyncio.gather(*asked)), closed, good


def bombs(quick: bool) -> Row:
    """A small file that is a huge picture, wherever a picture is taken."""
    bomb = bomb_png()
    given = {"prompt": "make it red", "num_inference_steps": 1}
    picture = small_png()
    new = {**given, "size": f"{BOMB_SIDE}x{BOMB_SIDE}"}
    wires = {
        "image": request(EDITS, given, {"image": bomb}),
        "mask": request(EDITS, given, {"image": picture, "mask": bomb}),
        "style": request(JOBS, {"task": "style", "prompt": "x", "steps": 4}, {"image": picture, "style": bomb}),
        "size of a new picture": request(GENERATIONS, as_json=new),
    }
    expected = dict.fromkeys(wires, 413) | {"size of a new picture": 400}
    with Served(*stand_in(1)) as server:
        worker = server.worker
        assert worker is not None
        run(lambda: once(server.port, edit(0)))
        pids = (server.pid, worker)
        for pid in pids:
            forget_most(pid)
        before = [resident_mib(pid, most=True) for pid in pids]
        answers = run(lambda: _each(server.port, wires))
        growth = [resident_mib(pid, most=True) - then for pid, then in zip(pids, before, strict=True)]
        same = server.worker == worker
    return Row(
        "bombs",
        f"a PNG of {len(bomb) / 1000:.0f} KB has {BOMB_SIDE**2 / 1e6:.0f} MP, {BOMB_MIB:.0f} MiB: refused before it is"
        " decoded",
        (
            *(
                Finding(f"as {name}: {answer.status}", answer.status == expected[name])
                for name, answer in answers.items()
            ),
            *(
                Finding(f"{name} at most {more:+.1f} MiB", more <= MOST_GROWTH_MIB)
                for name, more in zip(("front", "worker"), growth, strict=True)
            ),
            Finding("the same worker", same),
        ),
    )


async def _each(port: int, wires: dict[str, bytes]) -> dict[str, Answer]:
    return {name: await once(port, wire) for name, wire in wires.items()}
