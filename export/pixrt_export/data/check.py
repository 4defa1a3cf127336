"""Looking for what is wrong in a training set before days of training are spent on it. Must not import PyTorch."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.errors import OptionError, PictureError
from pixrt.pictures.geometry import Size
from pixrt.pictures.images import PictureSource, load_picture
from pixrt_export.data.fitting import plan_fit, size_of
from pixrt_export.data.folders import read_pairs
from pixrt_export.data.options import ANY, SetOptions
from pixrt_export.data.report import KEPT, DataReport, Fault, Finding
from pixrt_export.data.rows import StoredPairs

_NAMED = 10  # samples of a group of duplicates that are named


def check_pairs(
    path: str | Path,
    options: SetOptions = ANY,
    *,
    size: int = 256,
    workers: int = 2,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataReport:
    """Read every picture of a training set and report what is wrong. `size` is what it will be trained at, in pixels.

    `on_progress` is told (samples done, all samples). In memory are the index, a few decoded pairs, and one hash a
    sample. Raises DataError if the folder is no training set, OptionError for a size or workers below 1.
    """
    if size < 1 or workers < 1:
        raise OptionError(f"size is {size} and workers {workers}", remedy="Both must be at least 1")
    pairs = read_pairs(path, options)
    tally = _Tally(pairs, _clip_tokenizer())
    for row in pairs.bad_rows:
        tally.add(Fault.MALFORMED, Finding(pairs.place(row.number), None, row.reason))
    for done, look in enumerate(_looks(pairs, size, workers, Path(path)), 1):
        tally.take(look)
        on_progress(done, len(pairs))
    return tally.report(str(path))


@dataclass(slots=True)
class _Look:
    """What one sample shows. `digest` is there if both pictures could be read."""

    index: int
    findings: list[tuple[Fault, Finding]] = field(default_factory=list)
    has_source: bool = True
    source: Size | None = None
    target: Size | None = None
    digest: bytes | None = None


class _Tally:
    """Everything seen so far."""

    def __init__(self, pairs: StoredPairs, tokenizer: Tokenizer) -> None:
        self._pairs, self._tokenizer = pairs, tokenizer
        self._counts: Counter[Fault] = Counter()
        self._findings: dict[Fault, list[Finding]] = {fault: [] for fault in Fault}
        self._sources: Counter[Size] = Counter()
        self._targets: Counter[Size] = Counter()
        self._without_source = 0
        self._first: dict[bytes, int] = {}
        self._again: dict[int, list[int]] = {}

    def add(self, fault: Fault, finding: Finding) -> None:
        self._counts[fault] += 1
        if len(self._findings[fault]) < KEPT:
            self._findings[fault].append(finding)

    def take(self, look: _Look) -> None:
        for fault, finding in look.findings:
            self.add(fault, finding)
        self._without_source += not look.has_source
        self._sources.update([look.source] if look.source else [])
        self._targets.update([look.target] if look.target else [])
        if look.digest is not None:
            first = self._first.setdefault(look.digest, look.index)
            if first != look.index:
                self._again.setdefault(first, []).append(look.index)
        dropped = self._tokenizer.encode(self._pairs.instruction(look.index)).dropped
        if dropped:
            text = f"the last {dropped} tokens do not fit the text encoder and are left out"
            self.add(Fault.TOO_LONG, Finding(self._pairs.where(look.index), None, text))

    def report(self, path: str) -> DataReport:
        for first, again in sorted(self._again.items()):
            named = ", ".join(self._pairs.where(index) for index in again[:_NAMED])
            more = f" and {len(again) - _NAMED} more" if len(again) > _NAMED else ""
            self.add(Fault.DUPLICATE, Finding(self._pairs.where(first), None, f"again in {named}{more}"))
        return DataReport(
            path=path,
            samples=len(self._pairs),
            without_source=self._without_source,
            source_sizes=dict(self._sources.most_common()),
            target_sizes=dict(self._targets.most_common()),
            counts={fault: self._counts[fault] for fault in Fault},
            findings={fault: tuple(found) for fault, found in self._findings.items()},
        )


def _looks(pairs: StoredPairs, size: int, workers: int, folder: Path) -> Iterator[_Look]:
    """Look at every sample, in order. Threads suffice: decoding and hashing release the interpreter lock."""
    with ThreadPoolExecutor(workers) as pool:
        indices = iter(range(len(pairs)))
        # A few in advance keep the threads busy; all at once would be a million futures.
        waiting: deque[Future[_Look]] = deque(
            pool.submit(_look, pairs, index, size, folder) for index in islice(indices, 2 * workers)
        )
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_look, pairs, index, size, folder) for index in islice(indices, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _look(pairs: StoredPairs, index: int, size: int, folder: Path) -> _Look:
    look = _Look(index)
    where = pairs.where(index)

    def found(fault: Fault, text: str, file: str | None = None) -> None:
        look.findings.append((fault, Finding(where, file, text)))

    if not pairs.instruction(index).strip():
        found(Fault.MISPAIRED, "the instruction is empty")
    try:
        source, target = pairs.pictures(index)
    except PictureError as error:
        found(Fault.MISSING, error.problem)
        return look
    look.has_source = source is not None
    before = None if source is None else _read(source, "the source", folder, found)
    after = _read(target, "the target", folder, found)
    look.source = None if before is None else size_of(before)
    look.target = None if after is None else size_of(after)
    if after is None or (before is None and source is not None):
        return look
    look.digest = _digest(pairs.instruction(index), before, after)
    try:
        plan_fit(look.source, size_of(after), size)
    except PictureError as error:
        found(Fault.MISPAIRED, error.problem)
    if before is not None and np.array_equal(before, after):
        found(Fault.MISPAIRED, "the source is the target")
    sizes = [size_of(rgb) for rgb in (before, after) if rgb is not None]
    smallest = min(sizes, key=min)
    if min(smallest) < size:
        found(Fault.SMALL, f"{smallest[0]} x {smallest[1]}, less than {size}")
    return look


def _read(
    picture: PictureSource, role: str, folder: Path, found: Callable[[Fault, str, str | None], None]
) -> NDArray[np.uint8] | None:
    """The pixels, or None after saying what is wrong. `role` names a picture that is not a file of its own."""
    name = str(picture.relative_to(folder)) if isinstance(picture, Path) else role
    if isinstance(picture, Path) and _is_missing(picture):
        found(Fault.MISSING, "is not there", name)
        return None
    try:
        return load_picture(picture).rgb
    except PictureError as error:
        called = picture if isinstance(picture, Path) else "the picture"
        found(Fault.UNREADABLE, error.problem.removeprefix(f"{called} "), name)
        return None


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # there, or not even a possible name: reading it tells
        return False
    return False


def _digest(instruction: str, before: NDArray[np.uint8] | None, after: NDArray[np.uint8]) -> bytes:
    """Name the sample's content: pixels and text, so that the same picture in another file format counts as one."""
    digest = hashlib.blake2b(instruction.encode(), digest_size=16)
    for rgb in (before, after):
        digest.update(b"none" if rgb is None else repr(rgb.shape).encode())
        if rgb is not None:
            digest.update(np.ascontiguousarray(rgb).data)
    return digest.digest()


def _clip_tokenizer() -> Tokenizer:
    """CLIP's tokenizer, the same for every Stable Diffusion 1.x text encoder, out of a built-in bundle."""
    bundle = open_bundle(DEFAULT_BUNDLE, verify=False)
    return Tokenizer(bundle.folder, bundle.manifest.tokenizers[0])
