"""A gallery: pictures decoded ahead of the networks, grouped by size, made in pools, written behind.

What is held at any time is three batches of decoded pictures and two of results, whatever the gallery's length. Must
not import a backend.
"""

import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

from pixrt.apps.entries import Entry
from pixrt.apps.journal import Journal, Record, State, spelt
from pixrt.editor.events import Event, Failed, Made
from pixrt.editor.result import EditResult
from pixrt.errors import BackendError, OptionError, OutputError, PictureError, PixrtError
from pixrt.files import Content, atomic_write, content_of, require_free
from pixrt.pictures.formats import SUFFIXES
from pixrt.pictures.marking import DEFAULT_MARKING, Marking
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

Item = TypeVar("Item")

READERS = 2
WRITERS = 2
_WAITING_BATCHES = 64  # of pictures that wait for others of their size; of each its header alone is known


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry: a written result, or an error; neither of one that was finished before.

    `refused` is the error of a result that is not made because a file that the gallery did not make is in its place;
    `replaced` says why a result of the gallery's own was made anew, "" where there was none.
    """

    entry: Entry
    target: Path
    state: State | Literal["refused"]
    result: EditResult | None = None
    error: PixrtError | None = None
    replaced: str = ""

    @property
    def skipped(self) -> bool:
        """Whether it was finished before."""
        return self.result is None and self.error is None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry whose picture can be edited; its key is that of the files before they were read.

    `replaced` says why the file that is there, the gallery's own, is made anew; "" where none is there.
    """

    entry: Entry
    key: str
    request: Request
    replaced: str = ""


Batch = list[_Waiting]


class MakesPictures(AbstractContextManager[Any], Protocol):
    """Pictures on their way; see `pixrt.editor.run.Run`."""

    @property
    def waiting(self) -> int:
        """How many pictures have not begun."""

    def add(self, request: Request) -> None:
        """One more picture."""

    def __next__(self) -> Event:
        """What has happened next."""


class ChecksAndMakes(Protocol):
    """What a gallery wants of a `Runner`."""

    @property
    def manifest(self) -> Any:
        """The bundle's."""

    def check(self, jobs: Sequence[Job]) -> list[Request]:
        """Jobs, checked."""

    def events(self, requests: Sequence[Request], *, steps: bool) -> MakesPictures:
        """Pictures on their way."""


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
        overwrite: replace files that are there and were not made by this gallery.
    """

    def __init__(
        self,
        runner: ChecksAndMakes,
        folder: Path,
        journal: Journal,
        *,
        max_batch: int,
        quality: int = 95,
        marking: Marking = DEFAULT_MARKING,
        retry_failed: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._runner = runner
        self._folder = folder
        self._journal = journal
        self._max_batch = max_batch
        self._quality = quality
        self._marking = marking
        self._retry_failed = retry_failed
        self._overwrite = overwrite

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
        return writers.submit(self._write, waiting, result)

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
        target = self._folder / entry.target
        try:
            key = _key(entry)
            record = self._journal.find(entry.target.as_posix())
            if record is not None and record.key == key:
                if record.state == "done" and record.content == content_of(target):
                    return Outcome(entry, target, "done")
                if record.state == "failed" and not self._retry_failed:
                    return Outcome(entry, target, "failed")
            replaced = self._require_place(entry, target, record)
            job = Job(options=entry.options, text=entry.instruction, image=entry.path, mask=entry.mask)
            (request,) = self._runner.check([job])
        except (PictureError, OptionError) as error:
            return self._failed(entry, key, error)
        except OutputError as error:
            return Outcome(entry, target, "refused", error=error)
        except OSError as error:
            raise OutputError(f"cannot look at {target}: {error.strerror}", remedy="Check its permissions") from error
        return _Waiting(entry, key, request, replaced)

    def _require_place(self, entry: Entry, target: Path, record: Record | None) -> str:
        """Why what is at the target may be replaced; "" where nothing is. Raises OutputError, OSError.

        A gallery's own file may be if it was made of the same picture: its row or the picture have changed. One that
        somebody has emptied holds nothing that could be lost.
        """
        if require_free(target, overwrite=True) is None:
            return ""
        content = content_of(target)
        source = None if record is None or content is None else record.made.get(content)
        if source == self._source(entry):
            return "its picture or its row has changed"
        if content is not None and not content.size and record is not None:
            return "it was empty"
        if self._overwrite:
            return "--overwrite"
        whose = "was not made by this gallery" if source is None else f"is the result of {source}"
        raise OutputError(
            f"{target} exists and {whose}", remedy="Move it elsewhere, choose another -o, or pass --overwrite"
        )

    def _source(self, entry: Entry) -> str:
        """A picture as the journal names it: from the output folder, so that both may move."""
        try:
            path = Path(os.path.relpath(os.path.realpath(entry.path), os.path.realpath(self._folder)))
        except ValueError:  # on another drive
            path = entry.path.absolute()
        return spelt(path.as_posix())

    def _prepare(self, waiting: _Waiting) -> _Waiting | Outcome:
        """Decode one entry's picture; what is kept of it is what the networks take, and what the result needs."""
        request = waiting.request
        try:
            prepared = request.prepare(self._runner.manifest, {})
        except PictureError as error:
            return self._failed(waiting.entry, waiting.key, error)
        return dataclasses.replace(waiting, request=dataclasses.replace(request, prepared=prepared))

    def _write(self, waiting: _Waiting, result: EditResult | PixrtError) -> Outcome:
        """Save a result, after its line in the journal."""
        entry, key = waiting.entry, waiting.key
        if isinstance(result, PixrtError):
            return self._failed(entry, key, result)
        target = self._folder / entry.target
        data = result.to_bytes(
            SUFFIXES[target.suffix.lower()], quality=self._quality, marking=self._marking, source=entry.path
        )
        facts = {"input": entry.name, "seed": result.seed}
        self._journal.write_done(entry.target.as_posix(), key, Content.of(data), self._source(entry), facts)
        with atomic_write(target, overwrite=bool(waiting.replaced) or self._overwrite) as file:
            file.write(data)
        return Outcome(entry, target, "done", result, replaced=waiting.replaced)

    def _failed(self, entry: Entry, key: str, error: PixrtError) -> Outcome:
        facts = {"input": entry.name, "error": str(error)}
        self._journal.write_failed(entry.target.as_posix(), key, facts)
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
    """What a result depends on: what is in the files, the instruction and the options; and where it goes."""
    contents = [_content_of(path) if path else None for path in (entry.path, entry.mask)]
    facts = [entry.target.as_posix(), contents, entry.instruction, dataclasses.asdict(entry.options)]
    return blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _content_of(path: Path) -> tuple[int, str] | None:
    """None for a file that cannot be read: reading it as a picture says why."""
    try:
        content = content_of(path)
    except (OSError, ValueError):
        return None
    return None if content is None else (content.size, content.sha256)
