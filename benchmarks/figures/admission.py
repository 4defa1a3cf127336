"""The queue's limit, and what is offered beyond what can be done."""

import asyncio
import statistics
import time

from figures.pictures import small_png
from figures.process import Served, stand_in
from figures.rows import Finding, Row, timed
from figures.wire import EDITS, Answer, Connection, connected, request, run

SERVICE_MS, QUEUE = 200.0, 4
SEATS = QUEUE + 1
ASKED = 64
REFUSAL_MS = 25.0
OVERLOAD = 3.0
LEAST_THROUGHPUT = 0.98
FLAGS = (*stand_in(SERVICE_MS), "--max-batch", "1", "--queue", str(QUEUE))


def edit(seed: int, **fields: object) -> bytes:
    """A request for an edit of one step."""
    given = {"prompt": "make it red", "num_inference_steps": 1, "seed": seed}
    return request(EDITS, given | fields, {"image": small_png()})


def queue_limit(quick: bool) -> Row:
    """64 requests at once to one that runs and four that wait."""
    with Served(*FLAGS) as server:
        rounds = run(lambda: _at_once(server.port, 2 if quick else 5))
    accepted = {sum(answer.status == 200 for answer in answers) for answers in rounds}
    refused = [answer for answers in rounds for answer in answers if answer.status == 429]
    slowest = max(answer.ms for answer in refused)
    told = all(1 <= int(answer.headers.get("retry-after", 0)) <= 120 for answer in refused)
    return Row(
        "queue limit",
        f"Triton, Ray: of {ASKED} at once exactly {SEATS} accepted, {ASKED - SEATS} refused, within {REFUSAL_MS:g} ms",
        (
            Finding(
                f"{len(rounds)} rounds, accepted {', '.join(map(str, sorted(accepted)))} in each", accepted == {SEATS}
            ),
            Finding(f"{len(refused)} refused", len(refused) == len(rounds) * (ASKED - SEATS)),
            timed(f"slowest refusal {slowest:.1f} ms", slowest <= REFUSAL_MS),
            Finding("each with Retry-After", told),
        ),
    )


async def _at_once(port: int, rounds: int) -> list[list[Answer]]:
    found = []
    connections = await connected(port, ASKED)
    await connections[0].ask(edit(0))  # what is loaded at first is loaded
    for _ in range(rounds):
        wires = [edit(seed) for seed in range(ASKED)]
        asked = [connection.ask(wire) for connection, wire in zip(connections, wires, strict=True)]
        found.append(list(await asyncio.gather(*asked)))
    return found


def overload(quick: bool) -> Row:
    """Arrivals at three times what the device can do, whatever comes of them."""
    seconds = 8.0 if quick else 60.0
    with Served(*FLAGS) as server:
        alone, capacity, answers = run(lambda: _overloaded(server.port, seconds))
    accepted = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    span = max(answer.came for answer in accepted) - min(answer.asked for answer in accepted)
    throughput = len(accepted) / span
    slowest = max(answer.ms for answer in accepted)
    bound = SEATS * alone
    gained = 100 * throughput / capacity - 100
    return Row(
        "overload",
        f"open loop at {OVERLOAD:g} x capacity for {seconds:g} s: throughput within 2 % of the unloaded one, latency of"
        " accepted <= (queue + 1) x service time",
        (
            timed(
                f"{throughput:.3f} pictures/s beside {capacity:.3f} unloaded ({gained:+.1f} %)",
                throughput >= LEAST_THROUGHPUT * capacity,
            ),
            timed(f"slowest accepted {slowest:.0f} ms, {SEATS} x {alone:.0f} = {bound:.0f}", slowest <= bound),
            Finding(f"{len(accepted)} accepted, {len(refused)} refused", len(accepted) + len(refused) == len(answers)),
        ),
    )


async def _overloaded(port: int, seconds: float) -> tuple[float, float, list[Answer]]:
    """Milliseconds of a picture by itself; pictures per second where nobody is refused; all answers of the overload."""
    connection = await Connection.to(port)
    alone = [(await connection.ask(edit(seed))).ms for seed in range(10)]
    capacity = await _closed_loop(port, seconds / 4)
    pace = OVERLOAD * 1000 / SERVICE_MS
    count = int(pace * seconds)
    connections = await connected(port, ASKED)
    free, asked = list(connections), []
    began = time.monotonic()

    def send(number: int) -> None:
        connection = free.pop()
        answer = connection.ask(edit(number))
        answer.add_done_callback(lambda _: free.append(connection))
        asked.append(answer)

    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
        send(number)
    return statistics.median(alone[1:]), capacity, list(await asyncio.gather(*asked))


async def _closed_loop(port: int, seconds: float) -> float:
    """Pictures per second of as many clients as there are seats, each of which asks again at once."""
    ends = time.monotonic() + seconds
    came: list[float] = []

    async def client(connection: Connection) -> None:
        while time.monotonic() < ends:
            answer = await connection.ask(edit(1))
            assert answer.status == 200, answer.body
            came.append(answer.came)

    await asyncio.gather(*(client(connection) for connection in await connected(port, SEATS)))
    came.sort()
    return (len(came) - 1) / (came[-1] - came[0])
