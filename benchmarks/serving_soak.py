"""The server for a long time, with good, bad, slow and vanishing clients of all interfaces at once.

    python benchmarks/serving_soak.py --minutes 30

Rounds of half a minute of load; after each one all clients have gone, and memory, descriptors and threads of both
processes are read. In the end: the slope of memory in MB for 1,000 requests, whether descriptors and threads are what
they were, whether the server has counted the requests that were sent, to the unit, and whether its log has an error.
Ends with 1 if anything is not as it should be.
"""

import asyncio
import base64
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from figures.pictures import photo_jpeg, small_png
from figures.process import Metrics, Served, descriptors, resident_mib, threads, total
from figures.wire import EDITS, GENERATIONS, JOBS, Answer, Connection, request, run
from fuzzing.cases import FROM_TEXT, IMG2IMG, INFER, TO_IMAGE, TXT2IMG, Case, binary, cases
from fuzzing.pictures import files

ROUND_SECONDS, WARM_UP, PATIENCE_SECONDS = 30.0, 0.2, 120
SLOPE_MB = 1.0
IDLE_SECONDS, RESULT_SECONDS = 2, 2
FLAGS = (
    *("--header-seconds", str(IDLE_SECONDS), "--body-idle-seconds", str(IDLE_SECONDS)),
    *("--result-seconds", str(RESULT_SECONDS), "--queue", "24"),
)
LEFT = 499
BAD = ("pictures", "json", "tensors", "forms")


@dataclass
class Tally:
    """What clients have sent, and what came back.

    `unknown` counts requests whose clients did not wait for the answer: the server counts each once, too.
    """

    answers: Counter[int] = field(default_factory=Counter)
    unknown: int = 0
    pictures: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Requests that the server must have counted."""
        return self.answers.total() + self.unknown


class Clients:
    """All of them. `until` is when they stop, on the loop's clock."""

    def __init__(self, port: int, seed: int) -> None:
        self.tally = Tally()
        self._port = port
        self._random = random.Random(seed)
        self._bad = cases(seed, BAD)
        self._until = 0.0

    async def round(self, seconds: float) -> None:
        """Load for so many seconds, until the last answer."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        kinds: Sequence[tuple[Callable[[], Awaitable[None]], int]] = (
            (self._good, 4),
            (self._bad_one, 2),
            (self._vanishing, 3),
            (self._slow, 2),
        )
        await asyncio.gather(*(self._repeat(kind) for kind, count in kinds for _ in range(count)))

    async def _repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        while asyncio.get_running_loop().time() < self._until:
            self.tally.by_kind[kind.__name__.strip("_")] += 1
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await kind()
            except TimeoutError:
                self.tally.wrong.append(f"{kind.__name__}: no answer within {PATIENCE_SECONDS} s")

    async def _ask(self, wire: bytes, connection: Connection | None = None) -> Answer:
        """An answer, counted; on a connection of its own if none is given."""
        own = connection or await Connection.to(self._port)
        try:
            answer = await own.ask(wire)
        finally:
            if connection is None:
                own.leave()
        self.tally.answers[answer.status] += 1
        if answer.status in (0, 500) or answer.status > 504:
            self.tally.wrong.append(f"status {answer.status}: {wire[:60]!r}: {answer.body[:200]!r}")
        return answer

    # Those who mean well.

    async def _good(self) -> None:
        connection = await Connection.to(self._port)
        way = self._random.choice(
            (self._edit, self._edit, self._several, self._stream, self._job, self._others, self._reads)
        )
        await way(connection)
        connection.leave()

    def _fields(self, **more: Any) -> dict[str, Any]:
        steps = self._random.choice((1, 2, 4, 8))
        return {"prompt": "make the circle red", "seed": self._random.randrange(1 << 32), "steps": steps, **more}

    def _picture(self) -> bytes:
        return self._random.choice(
            (small_png(), small_png(96), photo_jpeg(256), files()["webp"], files()["avif alpha"])
        )

    async def _made(self, wire: bytes, connection: Connection, pictures: int = 1) -> Answer:
        answer = await self._ask(wire, connection)
        if answer.status == 200:
            self.tally.pictures += pictures
        elif answer.status not in (429, 504):
            self.tally.wrong.append(f"a good request got {answer.status}: {answer.body[:200]!r}")
        return answer

    async def _edit(self, connection: Connection) -> None:
        for _ in range(self._random.choice((1, 3))):
            output = self._random.choice(({}, {"output_format": "jpeg"}, {"output_format": "webp", "size": "96x96"}))
            picture = small_png() if "size" in output else self._picture()
            await self._made(request(EDITS, self._fields(**output), {"image": picture}), connection)

    async def _several(self, connection: Connection) -> None:
        fields = self._fields(n=3, deadline_ms=self._random.choice((50, 60_000)))
        await self._made(request(EDITS, fields, {"image": small_png()}), connection, 3)

    async def _stream(self, connection: Connection) -> None:
        fields = self._fields(stream="true", partial_images=2)
        answer = await self._made(request(EDITS, fields, {"image": small_png()}), connection)
        if answer.status == 200 and b"event: image_edit.completed" not in answer.body:
            self.tally.wrong.append(f"a stream without its picture: {answer.body[-300:]!r}")

    async def _job(self, connection: Connection) -> None:
        fields = self._fields(task=self._random.choice(("edit", "style")), partial_images=3)
        fields["steps"] = max(2, fields["steps"])  # a style begins after some of them
        pictures = {"image": small_png(), **({"style": self._picture()} if fields["task"] == "style" else {})}
        answer = await self._ask(request(JOBS, fields, pictures), connection)
        if answer.status != 202:
            if answer.status not in (429, 504):
                self.tally.wrong.append(f"a good job got {answer.status}: {answer.body[:200]!r}")
            return
        links = answer.json["links"]
        if self._random.random() < 0.3:
            await self._ask(request(links["self"], method="DELETE"), connection)
            return
        events = await self._ask(request(links["events"], method="GET"), connection)
        if b"event: done" not in events.body:
            self.tally.wrong.append(f"events without an end: {events.body[-300:]!r}")
        if self._random.random() < 0.5:
            result = await self._ask(request(links["result"], method="GET"), connection)
            self.tally.pictures += result.status == 200
            await self._ask(request(JOBS, method="GET"), connection)

    async def _others(self, connection: Connection) -> None:
        """The other protocols."""
        text = base64.b64encode(small_png()).decode()
        tensors = [
            ({"name": "IMAGE", "datatype": "UINT8", "shape": [1, 64, 64, 3]}, bytes(range(256)) * 48),
            ({"name": "INSTRUCTION", "datatype": "BYTES", "shape": [1]}, b"\1\0\0\0x"),
        ]
        few = {"steps": 2, "seed": 1}
        ways = (
            request(IMG2IMG, as_json={"prompt": "x", "init_images": [text], "steps": 2}),
            request(TXT2IMG, as_json={"prompt": "x", "width": 64, "height": 64, "steps": 2}),
            request(TO_IMAGE, as_json={"inputs": text, "parameters": {"prompt": "x", **few}}),
            request(FROM_TEXT, as_json={"inputs": "x", "parameters": {"width": 64, "height": 64, **few}}),
            request(GENERATIONS, as_json={"prompt": "x", "size": "64x64", **few}),
            binary(tensors, parameters=few),
            request(INFER, as_json=_json_tensors(text)),
        )
        await self._made(self._random.choice(ways), connection)

    async def _reads(self, connection: Connection) -> None:
        for path in ("/v1/models", "/v1/schema", "/health/ready", "/metrics", "/sdapi/v1/progress", "/v2", JOBS):
            answer = await self._ask(request(path, method="GET"), connection)
            if answer.status != 200:
                self.tally.wrong.append(f"{path} got {answer.status}")

    # Those who do not.

    async def _bad_one(self) -> None:
        case: Case = next(self._bad)
        await self._ask(case.wire)

    async def _vanishing(self) -> None:
        """Clients that go away: at any moment of the answer, of an event stream, or of their own request."""
        connection = await Connection.to(self._port)
        way = self._random.randrange(5)
        wire = request(EDITS, self._fields(n=self._random.choice((1, 2))), {"image": self._picture()})
        if way == 0:  # within the body
            head = wire.index(b"\r\n\r\n") + 4
            connection.send(wire[: self._random.randrange(head, len(wire))])
        elif way == 1:  # within a stream
            connection.ask(request(EDITS, self._fields(stream="true", partial_images=3), {"image": small_png()}))
        elif way == 2:  # within a job's events; the job goes on
            answer = await self._ask(request(JOBS, self._fields(task="edit"), {"image": small_png()}), connection)
            if answer.status != 202:
                connection.leave()
                return
            connection.ask(request(answer.json["links"]["events"], method="GET"))
        elif way == 3:  # within another protocol's answer
            connection.ask(request(TXT2IMG, as_json={"prompt": "x", "width": 64, "height": 64, "steps": 4}))
        else:
            connection.ask(wire)
        await asyncio.sleep(self._random.choice((0.001, 0.02, 0.1, 0.3)))
        connection.leave()
        self.tally.unknown += 1
        await asyncio.sleep(0.05)

    async def _slow(self) -> None:
        """Clients that send or read slowly, or stop."""
        connection = await Connection.to(self._port)
        wire = request(EDITS, self._fields(), {"image": self._picture()})
        way = self._random.randrange(4)
        if way == 0:  # half a head, and no more
            connection.send(wire[:30])
            await connection.closed
            self.tally.answers[408] += 1
        elif way == 1:  # half a body, and no more
            answer = await self._ask(wire[:-20], connection)
            if answer.status not in (408, 429):
                self.tally.wrong.append(f"half a body got {answer.status}")
        elif way == 2:  # byte by byte
            for byte in wire[:20]:
                connection.send(bytes([byte]))
                await asyncio.sleep(0.02)
            await self._made(wire[20:], connection)
        else:  # an answer that nobody reads for a while
            transport = connection._transport
            assert transport is not None
            waiting = connection.ask(wire)
            transport.pause_reading()
            await asyncio.sleep(1.5)
            transport.resume_reading()
            answer = await waiting
            self.tally.answers[answer.status] += 1
        connection.leave()


def _json_tensors(picture: str) -> dict[str, Any]:
    image = {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [picture]}
    text = {"name": "INSTRUCTION", "datatype": "BYTES", "shape": [1], "data": ["x"]}
    return {"inputs": [image, text], "parameters": {"steps": 2}}


@dataclass(frozen=True)
class Rest:
    """A process while nobody asks for anything, after so many requests. `cached` is what of its memory caches hold."""

    requests: int
    mib: float
    cached: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int, requests: int, cached: float) -> "Rest":
        """Of now."""
        return cls(requests, resident_mib(pid), cached, descriptors(pid), threads(pid))


def slope_mb(rests: Sequence[Rest]) -> float:
    """MB for 1,000 requests beside the caches, which have limits of their own; by least squares."""
    fit = statistics.linear_regression([rest.requests for rest in rests], [rest.mib - rest.cached for rest in rests])
    return fit.slope * 1000 * (1 << 20) / 1e6


def uncounted(tally: Tally, before: Metrics, after: Metrics) -> list[str]:
    """What of the requests the server has counted otherwise than they were sent."""
    counted: Counter[int] = Counter()
    for metrics, sign in ((after, 1), (before, -1)):
        for (name, labels), value in metrics.items():
            if name == "pixrt_requests_total":
                counted[int(dict(labels)["status"])] += sign * int(value)
    faults = []
    if counted.total() != tally.sent:
        faults.append(f"{counted.total()} requests are counted, {tally.sent} were sent")
    for status in counted | tally.answers:
        if counted[status] < tally.answers[status]:
            faults.append(f"of {tally.answers[status]} answers {status} only {counted[status]} are counted")
    return faults


async def settled(server: Served, tally: Tally) -> Metrics:
    """Wait until nothing is under way, and no result is kept: the metrics then."""
    for _ in range(600):
        metrics = await asyncio.to_thread(server.metrics)
        tally.answers[200] += 1
        names = ("pixrt_pictures_waiting", "pixrt_pictures_running", "pixrt_results")
        if not any(total(metrics, name) for name in names):
            return metrics
        await asyncio.sleep(0.2)
    raise SystemExit("what is under way does not end")


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of the requests.")] = 0,
    null: Annotated[bool, typer.Option(help="An engine that computes nothing, not the model of drawn scenes.")] = False,
) -> None:
    console = Console(width=150)
    with Served(*FLAGS, *(("--backend", "null") if null else ())) as server:
        worker = server.worker
        assert worker is not None
        rests: Mapping[str, list[Rest]] = {"front": [], "worker": []}
        before, began, read = server.metrics(), time.monotonic(), 0

        async def soak() -> Tally:
            nonlocal read
            clients = Clients(server.port, seed)
            clients.tally.answers[200] += 1  # that has read the first metrics
            for number in itertools.count(1):
                await clients.round(min(ROUND_SECONDS, 60 * minutes))
                cached = total(await settled(server, clients.tally), "pixrt_cache_bytes") / (1 << 20)
                for name, pid, kept in (("front", server.pid, 0.0), ("worker", worker, cached)):
                    rests[name].append(Rest.of(pid, clients.tally.sent, kept))
                front, back = rests["front"][-1], rests["worker"][-1]
                print(
                    f"{number:3} {clients.tally.sent:7} requests, front {front.mib:.1f} MiB {front.descriptors}"
                    f" {front.threads}, worker {back.mib:.1f} MiB ({back.cached:.1f} in caches) {back.descriptors}"
                    f" {back.threads}",
                    flush=True,
                )
                if time.monotonic() - began >= 60 * minutes:
                    return clients.tally
            raise AssertionError

        tally = run(soak)
        after = server.metrics()
        faults = list(tally.wrong)
        faults += [f"in the log: {line[:400]}" for line in server.log.splitlines() if " error " in line]
        if server.worker != worker or total(after, "pixrt_worker_restarts_total"):
            faults.append("the worker is another one")
    faults += uncounted(tally, before, after)
    table = Table("process", "MiB first", "last", "in caches", "MB for 1,000 requests", "descriptors", "threads")
    for name, all_rests in rests.items():
        kept = all_rests[int(len(all_rests) * WARM_UP) :]
        first, last = kept[0], kept[-1]
        slope = slope_mb(kept) if len(kept) > 1 else float("nan")
        table.add_row(
            name, f"{first.mib:.1f}", f"{last.mib:.1f}", f"{first.cached:.1f} to {last.cached:.1f}",
            f"{slope:+.3f}",
            f"{first.descriptors} to {last.descriptors}", f"{first.threads} to {last.threads}",
        )  # fmt: skip
        if not slope < SLOPE_MB:
            faults.append(f"{name}: {slope:.2f} MB for 1,000 requests")
        if last.descriptors > first.descriptors or last.threads > first.threads:
            faults.append(f"{name}: more descriptors or threads")
    minutes = (time.monotonic() - began) / 60
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(tally.by_kind.items()))
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.answers.items()))
    console.print(f"{minutes:.1f} minutes, {tally.sent} requests ({kinds}), {tally.pictures} pictures")
    console.print(f"answers {statuses}; {tally.unknown} whose clients did not wait")
    console.print(table)
    for fault in faults[:40]:
        print(fault)
    print(f"{len(faults)} faults")
    raise typer.Exit(int(bool(faults)))


if __name__ == "__main__":
    typer.run(main)
