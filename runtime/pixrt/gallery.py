"""A gallery edited in batches: pictures decoded ahead of the networks, grouped by size, written behind them.

What is held at any time is a few batches, whatever the gallery's length. Must not import a backend.
"""

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pixrt.entries import Entry
from pixrt.errors import BackendError, Cancelled, OptionError, PictureError, PixrtError
from pixrt.files import make_folder
from pixrt.journal import Journal, State
from pixrt.requests import Job, Request
from pixrt.result import EditResult
from pixrt.runner import Runner

READERS = 2
WRITERS = 2
_HELD_BYTES = 256 * 2**20  # of decoded pictures that wait for others of their size
_HELD_BATCHES = 8


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
    entry: Entry
    key: str
    request: Request


class Gallery:
    """Edits entries into a folder, and keeps its journal.

    Args:
        runner: the opened bundle.
        folder: where results go.
        journal: of that folder.
        max_batch: pictures in a batch; the runner's or less.
        quality: of JPEG, WebP and AVIF.
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
        retry_failed: bool = False,
    ) -> None:
        self._runner = runner
        self._folder = folder
        self._journal = journal
        self._max_batch = max_batch
        self._quality = quality
        self._retry_failed = retry_failed
        self._buckets: dict[object, list[_Waiting]] = {}

    def run(self, entries: Iterable[Entry]) -> Iterator[Outcome]:
        """Every entry's outcome, in the order in which they are finished.

        A picture that cannot be read or edited is an outcome with an error, and the rest goes on. Raises OutputError
        where results cannot be written, BackendError where the networks fail for a single picture too: what is in the
        journal by then is done.
        """
        with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(WRITERS) as writers:
            writing: deque[Future[Outcome]] = deque()
            try:
                for batch in self._batches(entries, readers):
                    if isinstance(batch, Outcome):
                        yield batch
                        continue
                    for waiting, result in self._edit(batch):
                        writing.append(writers.submit(self._write, waiting, result))
                    while len(writing) > 2 * self._max_batch or (writing and writing[0].done()):
                        yield writing.popleft().result()
                while writing:
                    yield writing.popleft().result()
            finally:
                readers.shutdown(cancel_futures=True)  # what is being written is finished

    def _batches(self, entries: Iterable[Entry], readers: ThreadPoolExecutor) -> Iterator[list[_Waiting] | Outcome]:
        """Batches of pictures that can run together, and outcomes of entries that need no run or cannot."""
        for read in _ahead(readers, self._read, entries, 2 * self._max_batch):
            if isinstance(read, Outcome):
                yield read
                continue
            bucket = self._buckets.setdefault(read.request.batch_key, [])
            bucket.append(read)
            if len(bucket) == self._max_batch:
                yield self._take(read.request.batch_key)
            while self._is_full():
                yield self._take(max(self._buckets, key=lambda key: len(self._buckets[key])))
        while self._buckets:
            yield self._take(next(iter(self._buckets)))

    def _take(self, key: object) -> list[_Waiting]:
        return self._buckets.pop(key)

    def _is_full(self) -> bool:
        held = [waiting for bucket in self._buckets.values() for waiting in bucket]
        return len(held) > _HELD_BATCHES * self._max_batch or sum(3 * w * h for w, h in _sizes(held)) > _HELD_BYTES

    def _read(self, entry: Entry) -> _Waiting | Outcome:
        """Check and decode one entry, in a thread of its own."""
        target = self._folder / entry.target
        try:
            key = _key(entry)
            state = self._journal.state(key)
            if state and (target.is_file() if state == "done" else not self._retry_failed):
                return Outcome(entry, target, state)
            job = Job(options=entry.options, text=entry.instruction, image=entry.path, mask=entry.mask)
            (request,) = self._runner.check([job])
            request = dataclasses.replace(request, loaded=request.load())
        except (PictureError, OptionError) as error:
            return self._failed(entry, error)
        return _Waiting(entry, key, request)

    def _edit(self, batch: Sequence[_Waiting]) -> Iterator[tuple[_Waiting, EditResult | PixrtError]]:
        """Edit a batch; where it fails, each picture alone, so that one does not take the others with it."""
        requests = [dataclasses.replace(waiting.request, index=place) for place, waiting in enumerate(batch)]
        try:
            for result in self._runner.run(requests):
                yield batch[result.index], result
        except Cancelled:
            raise
        except PixrtError as error:
            if len(batch) == 1:
                if isinstance(error, BackendError):
                    raise
                yield batch[0], error
                return
            for waiting in batch:
                yield from self._edit([waiting])

    def _write(self, waiting: _Waiting, result: EditResult | PixrtError) -> Outcome:
        """Save a result, then its line in the journal."""
        if isinstance(result, PixrtError):
            return self._failed(waiting.entry, result)
        target = self._folder / waiting.entry.target
        make_folder(target.parent)
        result.save(target, quality=self._quality)
        facts = {"input": waiting.entry.name, "output": str(waiting.entry.target), "seed": result.seed}
        self._journal.write(waiting.key, facts, failed=False)
        return Outcome(waiting.entry, target, "done", result)

    def _failed(self, entry: Entry, error: PixrtError) -> Outcome:
        self._journal.write(_key(entry), {"input": entry.name, "error": str(error)}, failed=True)
        return Outcome(entry, self._folder / entry.target, "failed", error=error)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Entry], Any], entries: Iterable[Entry], count: int
) -> Iterator[Any]:
    """The results of `work` in order, at most `count` begun and not taken."""
    begun: deque[Future[Any]] = deque()
    for entry in entries:
        begun.append(pool.submit(work, entry))
        if len(begun) >= count:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _sizes(held: Sequence[_Waiting]) -> list[tuple[int, int]]:
    return [waiting.request.size for waiting in held]


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
