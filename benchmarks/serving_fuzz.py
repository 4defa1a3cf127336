"""Requests that nobody means well with: mutated pictures, bombs, false tensors, odd JSON and forms, what is no HTTP.

    python benchmarks/serving_fuzz.py --requests 10000 --seed 0

Starts `pixrt serve` with an engine that computes nothing, sends it so many requests, and looks at each answer: there is
one, in time; no status but those of the OpenAPI document, none of 500 and more but a passed deadline; a body as the
document says. In the end the worker must be the one that was started, and the log without an error. The same seed
sends the same requests. Ends with 1 if anything is wrong, and says what.
"""

import asyncio
import itertools
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from jsonschema import Draft202012Validator
from rich.console import Console
from rich.table import Table

from figures.process import Served, descriptors, resident_mib, threads, total
from figures.wire import Answer, Connection, run
from fuzzing.cases import KINDS, Case, cases

IDLE_SECONDS, PATIENCE_SECONDS = 4, 30
FLAGS = ("--backend", "null", "--header-seconds", str(IDLE_SECONDS), "--body-idle-seconds", str(IDLE_SECONDS))
MOST_MIB = 200  # more than before: a picture of the most pixels takes 75
# What the guard, or the server before it, answers to what is no request for any operation.
BEFORE = frozenset({400, 403, 404, 405, 408, 413, 415, 421, 431})
WELL = frozenset({200, 202, 204})
_LEAKS = re.compile(rb"Traceback|File \"|site-packages|root:x:")


@dataclass
class Outcome:
    """What came of requests: how many of each kind had which status (0: closed without one), and what was wrong."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[tuple[Case, str]] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")  # milliseconds, and of which request


class Document:
    """The server's OpenAPI document, and whether an answer is as it says."""

    def __init__(self, address: str) -> None:
        with urllib.request.urlopen(f"{address}/openapi.json") as answer:
            self._document = json.load(answer)
        self._paths = [
            (re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)), each) for path, each in self._document["paths"].items()
        ]

    def responses(self, case: Case) -> Mapping[str, Any] | None:
        """The answers of a request's operation."""
        for pattern, operations in self._paths:
            if pattern.fullmatch(case.path) and case.method.lower() in operations:
                found: Mapping[str, Any] = operations[case.method.lower()]["responses"]
                return found
        return None

    def fault(self, case: Case, answer: Answer) -> str:
        """What is wrong with an answer; "" if nothing is."""
        if not answer.status:
            return "" if case.may_close else "the connection was closed without an answer"
        if answer.status >= 500 and answer.status != 504:
            return f"status {answer.status}: {answer.body[:300]!r}"
        if _LEAKS.search(answer.body):
            return f"the answer tells of the inside: {answer.body[:300]!r}"
        responses = self.responses(case)
        if responses is None:
            return "" if answer.status in BEFORE | WELL else f"status {answer.status} of no operation"
        if str(answer.status) not in responses:
            return f"status {answer.status} is not documented: {answer.body[:300]!r}"
        return self._fault_of_body(responses[str(answer.status)].get("content", {}), answer)

    def _fault_of_body(self, content: Mapping[str, Any], answer: Answer) -> str:
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind not in content:
            return f"the type {kind!r} is not documented"
        if kind != "application/json":
            return ""
        schema = {**content[kind].get("schema", {}), "components": self._document["components"]}
        errors = [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(answer.body))]
        return f"the body is not as documented: {errors[0][:300]}" if errors else ""


class _Client(Connection):
    """One request's."""

    is_head = False

    def on_headers_complete(self) -> None:
        if self.is_head:  # of its answer the parser would expect a body
            super().on_message_complete()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 100:
            super().on_message_complete()


async def _ask(port: int, case: Case) -> Answer:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    client.is_head = case.wire.startswith(b"HEAD")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await client.ask(case.wire)
    finally:
        client.leave()


async def send(port: int, sent: Iterable[Case], document: Document, at_once: int) -> Outcome:
    """Send requests, so many at once, and judge their answers."""
    outcome, left = Outcome(), iter(sent)

    async def client() -> None:
        for case in left:
            began = time.monotonic()
            try:
                answer = await _ask(port, case)
            except TimeoutError:
                outcome.wrong.append((case, f"no answer within {PATIENCE_SECONDS} s"))
                continue
            outcome.slowest = max(outcome.slowest, (1000 * (time.monotonic() - began), case.name))
            outcome.statuses[case.name.split()[0], answer.status] += 1
            if fault := document.fault(case, answer):
                outcome.wrong.append((case, fault))

    await asyncio.gather(*(client() for _ in range(at_once)))
    return outcome


def faults_of(server: Served, worker: int | None) -> Iterator[str]:
    """What is wrong with the server afterwards."""
    if server.worker != worker or total(server.metrics(), "pixrt_worker_restarts_total"):
        yield "the worker is another one"
    if not server.is_ready():
        yield "it is not ready"
    left = {name: total(server.metrics(), name) for name in ("pixrt_pictures_waiting", "pixrt_pictures_running")}
    if any(left.values()):
        yield f"pictures are left: {left}"
    yield from (f"in the log: {line[:500]}" for line in server.log.splitlines() if " error " in line)


def fuzz(seed: int, requests: int, kinds: tuple[str, ...] = (), at_once: int = 8) -> tuple[Outcome, list[str], Table]:
    """Start a server, send requests, and look at it afterwards: what came of them, faults, and what it holds."""
    table = Table("process", "MiB before", "after", "descriptors", "threads")
    with Served(*FLAGS) as server:
        document, worker = Document(server.address), server.worker
        assert worker is not None
        before = {pid: resident_mib(pid) for pid in (server.pid, worker)}
        outcome = run(lambda: send(server.port, itertools.islice(cases(seed, kinds), requests), document, at_once))
        faults = list(faults_of(server, worker))
        for name, pid in (("front", server.pid), ("worker", worker)) if server.worker == worker else ():
            after = resident_mib(pid)
            table.add_row(name, f"{before[pid]:.0f}", f"{after:.0f}", str(descriptors(pid)), str(threads(pid)))
            if after > before[pid] + MOST_MIB:
                faults.append(f"the {name} holds {after:.0f} MiB, {before[pid]:.0f} before")
    return outcome, faults, table


def main(
    requests: Annotated[int, typer.Option(help="How many.")] = 5000,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    kinds: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(KINDS)}; may be repeated.")] = None,
    at_once: Annotated[int, typer.Option(help="Connections.")] = 8,
    keep: Annotated[Path | None, typer.Option(help="A folder for the requests with a wrong answer.")] = None,
) -> None:
    began = time.monotonic()
    outcome, faults, table = fuzz(seed, requests, tuple(kinds or ()), at_once)
    seconds, console = time.monotonic() - began, Console(width=150)
    statuses: Counter[int] = Counter()
    for (_, status), count in outcome.statuses.items():
        statuses[status] += count
    listed = ", ".join(f"{status or 'closed'}: {count}" for status, count in sorted(statuses.items()))
    console.print(f"seed {seed}: {requests} requests in {seconds:.0f} s; {listed}")
    console.print(f"slowest {outcome.slowest[0]:.0f} ms: {outcome.slowest[1]}", markup=False)
    console.print(table)
    for number, (case, fault) in enumerate(outcome.wrong[:40]):
        print(f"{case.name}\n    {fault}")
        if keep is not None:
            keep.mkdir(exist_ok=True)
            (keep / f"{number}.http").write_bytes(case.wire)
    for fault in faults[:40]:
        print(fault)
    print(f"{len(outcome.wrong)} wrong answers, {len(faults)} faults")
    raise typer.Exit(int(bool(outcome.wrong or faults)))


if __name__ == "__main__":
    typer.run(main)
