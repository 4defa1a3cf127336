"""A gallery's state in its output folder: one line of JSON per picture and what became of it, appended as it is.

A result is known by its target. Its line is written before it is: it is done where the last line of its target has
its key, and the file there has the size and the SHA-256 that the line says. So whatever a crash leaves, nothing is
taken for done that is not there, whole. A line that a crash cut short is dropped. Must not import a backend.
"""

import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock, Timeout

from pixrt.errors import OutputError
from pixrt.files import Content, make_folder, remove_leftovers
from pixrt.reading import MOST_BYTES, parse_json

State = Literal["done", "failed"]

JOURNAL_NAME = "pixrt-batch.jsonl"
_VERSION = 2
_BEGIN = b'{"pixrt_batch": '  # of every journal


@dataclass(slots=True)
class Record:
    """What is known of a target: its last line, and every file that was ever written there, with its source."""

    key: str
    state: State
    content: Content | None
    made: dict[Content, str] = field(default_factory=dict)


class Journal:
    """What is done and what has failed, by target. Threads may write to it.

    A few hundred bytes a picture are in memory.
    """

    def __init__(self, file: BinaryIO, path: Path, records: dict[str, Record]) -> None:
        self._file = file
        self._path = path
        self._records = records
        self._lock = threading.Lock()

    def find(self, target: str) -> Record | None:
        """What is known of a target; None for one that has no line."""
        return self._records.get(spelt(target))

    def write_done(self, target: str, key: str, content: Content, source: str, facts: Mapping[str, Any]) -> None:
        """Append the line of a result that is about to be written, durably. Raises OutputError."""
        line = {"bytes": content.size, "sha256": content.sha256, "source": source, **facts}
        self._write({"output": target, "key": key, "state": "done", **line})

    def write_failed(self, target: str, key: str, facts: Mapping[str, Any]) -> None:
        """Append the line of a picture that failed. Raises OutputError."""
        self._write({"output": target, "key": key, "state": "failed", **facts})

    def _write(self, line: Mapping[str, Any]) -> None:
        line = {name: spelt(value) if isinstance(value, str) else value for name, value in line.items()}
        with self._lock:
            _append(self._file, self._path, line)
            _take(self._records, line)


@contextmanager
def open_journal(folder: Path, job: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Journal]:
    """Open, or begin, the journal of a folder, for this process only.

    `job` is what the results depend on beside the pictures, as JSON. With `overwrite` a journal of an earlier version
    is begun anew. Raises OutputError if the folder holds another job's results, the journal's file is something else,
    another process writes to it, or the disk refuses.
    """
    make_folder(folder)
    job = json.loads(json.dumps(job))  # as it is read back
    path = folder / JOURNAL_NAME
    lock = FileLock(folder / f".{JOURNAL_NAME}.lock", timeout=0)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
            _require_regular(path)
            file = stack.enter_context(path.open("a+b"))
            earlier, records = _read(file, path, overwrite)
            remove_leftovers(folder, deep=True)
        except Timeout:
            raise OutputError(
                f"another process writes into {folder}", remedy="Wait for it, or choose another -o"
            ) from None
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}", remedy="Choose another -o") from error
        if earlier is None:
            _append(file, path, {"pixrt_batch": _VERSION, "job": job})
        else:
            _require_same(earlier, job, folder)
        yield Journal(file, path, records)


def earlier_seed(folder: Path) -> int | None:
    """The seed of the results that a folder holds; None if it holds none."""
    path = folder / JOURNAL_NAME
    try:
        _require_regular(path)
        with path.open("rb") as file:
            seed = parse_json(file.readline(MOST_BYTES))["job"]["options"]["seed"]
    except (OSError, OutputError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return seed if isinstance(seed, int) else None


def _require_regular(path: Path) -> None:
    """Raise OutputError for a folder, a pipe or a device of the journal's name: opening it could wait for ever."""
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise _no_journal(path)


def _read(file: BinaryIO, path: Path, overwrite: bool) -> tuple[dict[str, Any] | None, dict[str, Record]]:
    """The job and the records in a journal; what a crash left of a last line is cut off, if the file is a journal."""
    file.seek(0)
    begin = file.read(len(_BEGIN))
    if not _BEGIN.startswith(begin):
        raise _no_journal(path)
    file.seek(0)
    job, records, end = None, dict[str, Record](), 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            value = parse_json(line)
            if job is not None:
                _take(records, value)
            elif value["pixrt_batch"] == 1:
                if not overwrite:
                    raise _too_old(path)
                break
            elif value["pixrt_batch"] == _VERSION:
                job = value["job"]
            else:
                raise ValueError(value["pixrt_batch"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise _no_journal(path) from error
        end += len(line)
    file.truncate(end)
    return job, records


def _take(records: dict[str, Record], line: Mapping[str, Any]) -> None:
    """Have records know of a line. Raises LookupError, TypeError, ValueError for one that is none of a journal."""
    target, key, state = line["output"], line["key"], line["state"]
    content = Content(line["bytes"], line["sha256"]) if state == "done" else None
    if not (isinstance(target, str) and isinstance(key, str) and state in ("done", "failed")):
        raise ValueError(state)
    record = records.setdefault(target, Record(key, state, content))
    record.key, record.state, record.content = key, state, content
    if content is not None:
        record.made[content] = line["source"]


def spelt(text: str) -> str:
    """Text with what is no Unicode in names of files spelt out, as a journal has it: other programs read it too."""
    return text.encode(errors="backslashreplace").decode()


def _no_journal(path: Path) -> OutputError:
    return OutputError(
        f"{path} is not a journal of pixrt, and is left as it is", remedy="Move it elsewhere, or choose another -o"
    )


def _too_old(path: Path) -> OutputError:
    return OutputError(
        f"{path} is a journal of an earlier version, which does not say what its results were",
        remedy="Choose another -o, or pass --overwrite: everything is made anew then",
    )


def _require_same(earlier: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> None:
    for name in sorted(earlier.keys() | job.keys()):
        was, now = earlier.get(name), job.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            _require_same(was, now, folder)
        elif was != now:
            raise OutputError(
                f"{folder} holds results with {name} {was!r:.80}, and now it is {now!r:.80}",
                remedy="Choose another -o, or give the same parameters as before",
            )


def _append(file: BinaryIO, path: Path, value: Mapping[str, Any]) -> None:
    try:
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", remedy="Free some space; then go on") from error
