"""Standard output and standard error: what becomes of them never stops the work. Must not import anything heavy.

Whoever reads them may have gone away, and the disk that they go to may be full. What is written then is dropped; that
results were not printed is told by the exit code in the end, that notes were not by nobody.
"""

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, BinaryIO

from pixrt.errors import OutputError

_PATIENCE_S = 1.0  # that a note waits for a reader of the pipe
_ATOMIC = 4096  # bytes that a pipe with any room takes without waiting
_closed: set[int] = set()


class _Dropping(io.FileIO):
    """A descriptor that takes everything: what cannot be written is dropped. `problem` is why, once it was."""

    def __init__(self, fd: int, *, waits: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self.problem: OSError | None = None
        self._is_pipe = not waits and stat.S_ISFIFO(os.fstat(fd).st_mode)

    def write(self, data: Any, /) -> int:
        """All of it, whatever becomes of it."""
        view = memoryview(data).cast("B")
        left = view
        while left:
            if self._is_pipe and not self._has_room():
                break
            try:
                written = super().write(left[:_ATOMIC] if self._is_pipe else left)
            except OSError as error:
                self.problem = error
                break
            if written is None:  # it does not wait by itself
                select.select([], [self], [])
            left = left[written or 0 :]
        return len(view)

    def _has_room(self) -> bool:
        """A reader that has stopped reading is waited for once, and then no longer until it reads again."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        if poll.poll(0 if self.problem else 1000 * _PATIENCE_S):
            self.problem = None
            return True
        self.problem = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return False


def settle_streams() -> bool:
    """Have both streams take everything, and spell out what the terminal cannot show.

    False where they are not those of the process: somebody else's, such as a test's, are left as they are.
    """
    for fd in (0, 1, 2):  # one that is closed would be given to the next file that is opened
        try:
            os.fstat(fd)
        except OSError:
            _closed.add(fd)
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    sys.stdout = _settled(sys.stdout, sys.__stdout__, 1, waits=True)
    sys.stderr = _settled(sys.stderr, sys.__stderr__, 2, waits=not hasattr(select, "poll"))
    return isinstance(_raw(sys.stderr), _Dropping) or 2 in _closed


def _settled(stream: Any, original: Any, fd: int, *, waits: bool) -> Any:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123  # as long as the process
    if stream is not original or isinstance(_raw(stream), _Dropping):  # a test's, or done already
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    raw = _Dropping(fd, waits=waits)
    return io.TextIOWrapper(
        raw if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: Any) -> Any:
    """What a stream writes to in the end; unbuffered ones have nothing between."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def print_problem() -> OSError | None:
    """Why results could not be printed; None if they were, or if their reader had enough."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = _raw(sys.stdout)
    problem = raw.problem if isinstance(raw, _Dropping) else None
    return None if problem is None or problem.errno == errno.EPIPE else problem


@contextmanager
def taken_output() -> Iterator[BinaryIO]:
    """Standard output for the bytes of a picture; what is printed meanwhile goes to standard error.

    Raises OutputError if it is closed, or a terminal.
    """
    sys.stdout.flush()
    if 1 in _closed or sys.stdout.isatty():
        raise OutputError("standard output is closed or a terminal", remedy="Redirect it, or give a file with -o")
    try:
        fd = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # a test's
        with redirect_stdout(sys.stderr):
            yield sys.stdout.buffer
        return
    with os.fdopen(fd, "wb", buffering=0) as stream, redirect_stdout(sys.stderr):
        os.dup2(2, 1)  # what libraries print
        try:
            yield stream
        finally:
            os.dup2(fd, 1)


def write_output(stream: BinaryIO, data: bytes) -> None:
    """Write a picture. Raises OutputError."""
    left = memoryview(data)
    try:
        while left:
            left = left[stream.write(left) or 0 :]
    except OSError as error:
        raise OutputError(
            f"the picture cannot be written to standard output: {error.strerror}", remedy="Check where it goes"
        ) from error
