"""A gallery's state in its output folder: one line of JSON per picture that is finished, appended as it is.

A line that a crash cut short is dropped when the journal is opened again; the picture it was for is made again, with
the same result. Must not import a backend.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock, Timeout

from pixrt.errors import OutputError
from pixrt.files import make_folder, remove_leftovers

State = Literal["done", "failed"]

JOURNAL_NAME = "pixrt-batch.jsonl"
_VERSION = 1


class Journal:
    """What is done and what has failed, by key. Threads may write to it.

    Only keys and outcomes are in memory: about 100 bytes a picture.
    """

    def __init__(self, file: BinaryIO, path: Path, failed: dict[str, bool]) -> None:
        self._file = file
        self._path = path
        self._failed = failed
        self._lock = threading.Lock()

    def state(self, key: str) -> State | None:
        """What became of a picture; None for one that has no line."""
        if key not in self._failed:
            return None
        return "failed" if self._failed[key] else "done"

    def write(self, key: str, facts: Mapping[str, Any], *, failed: bool) -> None:
        """Append a picture's line. Raises OutputError."""
        state = "failed" if failed else "done"
        with self._lock:
            _append(self._file, self._path, {"key": key, "state": state, **facts})
            self._failed[key] = failed


@contextmanager
def open_journal(folder: Path, job: Mapping[str, Any]) -> Iterator[Journal]:
    """Open, or begin, the journal of a folder, for this process only.

    `job` is what the results depend on beside the pictures, as JSON. Raises OutputError if the folder holds another
    job's results, another process writes to it, or the disk refuses.
    """
    make_folder(folder)
    job = json.loads(json.dumps(job))  # as it is read back
    path = folder / JOURNAL_NAME
    lock = FileLock(folder / f".{JOURNAL_NAME}.lock", timeout=0)
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
            file = stack.enter_context(path.open("a+b"))
            earlier, failed = _read(file, path)
            remove_leftovers(folder)
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
        yield Journal(file, path, failed)


def earlier_seed(folder: Path) -> int | None:
    """The seed of the results that a folder holds; None if it holds none."""
    try:
        with (folder / JOURNAL_NAME).open("rb") as file:
            seed = json.loads(file.readline())["job"]["options"]["seed"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return seed if isinstance(seed, int) else None


def _read(file: BinaryIO, path: Path) -> tuple[dict[str, Any] | None, dict[str, bool]]:
    """The job and the outcomes in a journal; what a crash left of a last line is cut off."""
    file.seek(0)
    job, failed, end = None, {}, 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            value = json.loads(line)
            if job is None:
                if value["pixrt_batch"] != _VERSION:
                    raise ValueError(value["pixrt_batch"])
                job = value["job"]
            else:
                failed[value["key"]] = value["state"] == "failed"
        except (ValueError, LookupError, TypeError) as error:
            raise OutputError(f"{path} is not a journal of pixrt", remedy="Choose another -o") from error
        end += len(line)
    file.truncate(end)
    return job, failed


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
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", remedy="Free some space; then go on") from error
