"""A gallery: pictures decoded ahead of the networks, grouped by size, made in pools, written behind.

What is held at any time is three batches of decoded pictures and two of results, whatever the gallery's length. Must
not import a backend.
"""

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar, cast

from pixrt.apps.entries import Entry
from pixrt.apps.journal import Journal, State
from pixrt.editor.events import Event, Failed, Made
from pixrt.editor.result import EditResult
from pixrt.editor.runner import Runner
from pixrt.errors import BackendError, OptionError, OutputError, PictureError, PixrtError
from pixrt.files import make_folder
from pixrt.pictures.marking import DEFAULT_MARKING, Marking
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

Item = TypeVar("Item")

READERS = 2
WRITERS = 2
_WAITING_BATCHES = 64  # of pictures that wait for others of their size; of each its header alone is known


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry: a written result, or an error; neither of one that was finished before."""

    entry: Entry
    target: Path
    state: State
    result: EditResult | None = None
    error: PixrtError | None = None

    @property
    def skipped(self) -> bool:
        """Whether it was finished before."""
        return self.result is None and self.error is None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry whose picture can be edited; its key is that of the files before they were read."""

    entry: Entry
    key: str
    request: Request


Batch = list[_Waiting]


class Gallery:
    """Edits entries into a folder, and keeps its journal.

    Args:
        runner: the opened bundle.
        folder: where results go.
        journal: of that folder.
        max_batch: pictures that are decoded together; the runner's.
        quality: of JPEG, WebP and AVIF.
        marking: what results carry.
        retry_failed: edit again what has failed before.
    """

    def __init__(
        self,
        runner: Runner,
        folder: Path,
        journal: Journal,
        *,
        max_batch: int,
        quality: int = 95,
        marking: Marking = DEFAULT_MARKING,
        retry_failed: bool = False,
    ) -> None:
        self._runner = runner
        self._folder = folder
        self._journal = journal
        self._max_batch = max_batch
        self._quality = quality
        self._marking = marking
        self._retry_failed = retry_failed

    def run(self, entries: Iterable[Entry]) -> Iterator[Outcome]:
        """Every entry's outcome, in the order in which they are finished.

        A picture that cannot be read or edited is an outcome with an error, and the rest goes on. Raises OutputError
        if results cannot be written, BackendError if the networks fail for a single picture too: what is in the
        journal by then is done.
        """
        with (
            ThreadPoolExecutor(READERS) as readers,
            ThreadPoolExecutor(WRITERS) as writers,
            self._runner.events((), steps=False) as run,
        ):
            making: dict[int, _Waiting] = {}
            writing: deque[Future[Outcome]] = deque()

            def advance(most_waiting: int) -> Iterator[Outcome]:
                while run.waiting > most_waiting or (making and not most_waiting):
                    event = next(run)
                    writing.append(self._submit(writers, making.pop(event.index), event))
                    while len(writing) > self._max_batch or (writing and writing[0].done()):
                        yield writing.popleft().result()

            try:
                for number, found in enumerate(self._prepared(entries, readers)):
                    if isinstance(found, Outcome):
                        yield found
                        continue
                    making[number] = found
                    run.add(dataclasses.replace(found.request, index=number))
                    yield from advance(self._max_batch)
                yield from advance(0)
                while writing:
                    yield writing.popleft().result()
            finally:
                readers.shutdown(cancel_futures=True)  # what is being written is finished

    def _submit(self, writers: ThreadPoolExecutor, waiting: _Waiting, event: Event) -> "Future[Outcome]":
        """Have an event's outcome written. Raises BackendError: the next picture would fail as well."""
        if isinstance(event, Failed) and isinstance(event.error, BackendError):
            raise event.error
        result = event.result if isinstance(event, Made) else cast(Failed, event).error
        return writers.submit(self._write, waiting.entry, waiting.key, result)

    def _prepared(self, entries: Iterable[Entry], readers: ThreadPoolExecutor) -> Iterator[_Waiting | Outcome]:
        """Decoded pictures, those of one size after each other: while a batch is made, the next one is prepared."""
        preparing: deque[list[Future[_Waiting | Outcome]]] = deque()
        for batch in self._batches(entries, readers):
            if isinstance(batch, Outcome):
                yield batch
                continue
            preparing.append([readers.submit(self._prepare, waiting) for waiting in batch])
            if len(preparing) > 1:
                yield from (future.result() for future in preparing.popleft())
        for futures in preparing:
            yield from (future.result() for future in futures)

    def _batches(self, entries: Iterable[Entry], readers: ThreadPoolExecutor) -> Iterator[Batch | Outcome]:
        """Batches of pictures of one working size, and outcomes of entries that need no run or cannot."""
        buckets: dict[object, Batch] = {}
        for found in _ahead(readers, self._look, entries, 4 * self._max_batch):
            if isinstance(found, Outcome):
                yield found
                continue
            bucket = buckets.setdefault(found.request.geometry.padded, [])
            bucket.append(found)
            if len(bucket) == self._max_batch:
                yield buckets.pop(found.request.geometry.padded)
            elif sum(map(len, buckets.values())) > _WAITING_BATCHES * self._max_batch:
                yield buckets.pop(max(buckets, key=lambda key: len(buckets[key])))
        yield from buckets.values()

    def _look(self, entry: Entry) -> _Waiting | Outcome:
        """Check one entry, and read its picture's header."""
        target, key = self._folder / entry.target, _key(entry)
        try:
            state = self._journal.state(key)
            if state and (target.is_file() if state == "done" else not self._retry_failed):
                return Outcome(entry, target, state)
            job = Job(options=entry.options, text=entry.instruction, image=entry.path, mask=entry.mask)
            (request,) = self._runner.check([job])
        except (PictureError, OptionError) as error:
            return self._failed(entry, key, error)
        except OSError as error:
            raise OutputError(f"cannot look at {target}: {error.strerror}", remedy="Check its permissions") from error
        return _Waiting(entry, key, request)

    def _prepare(self, waiting: _Waiting) -> _Waiting | Outcome:
        """Decode one entry's picture; what is kept of it is what the networks take, and what the result needs."""
        request = waiting.request
        try:
            prepared = request.prepare(self._runner.manifest, {})
        except PictureError as error:
            return self._failed(waiting.entry, waiting.key, error)
        return dataclasses.replace(waiting, request=dataclasses.replace(request, prepared=prepared))

    def _write(self, entry: Entry, key: str, result: EditResult | PixrtError) -> Outcome:
        """Save a result, then its line in the journal."""
        if isinstance(result, PixrtError):
            return self._failed(entry, key, result)
        target = self._folder / entry.target
        make_folder(target.parent)
        result.save(target, quality=self._quality, marking=self._marking, source=entry.path)
        facts = {"input": entry.name, "output": entry.target.as_posix(), "seed": result.seed}
        self._journal.write(key, facts, failed=False)
        return Outcome(entry, target, "done", result)

    def _failed(self, entry: Entry, key: str, error: PixrtError) -> Outcome:
        self._journal.write(key, {"input": entry.name, "error": str(error)}, failed=True)
        return Outcome(entry, self._folder / entry.target, "failed", error=error)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Entry], Item], entries: Iterable[Entry], count: int
) -> Iterator[Item]:
    """The results of `work` in order, at most `count` begun and not taken."""
    begun: deque[Future[Item]] = deque()
    for entry in entries:
        begun.append(pool.submit(work, entry))
        if len(begun) >= count:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _key(entry: Entry) -> str:
    """What a result depends on: the files as they are, the instruction and the options; and where it goes."""
    stats = []
    for path in (entry.path, entry.mask):
        try:
            stat = path.stat() if path else None
        except OSError:
            stat = None
        stats.append((stat.st_size, stat.st_mtime_ns) if stat else None)
    facts = [entry.target.as_posix(), stats, entry.instruction, dataclasses.asdict(entry.options)]
    return blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
