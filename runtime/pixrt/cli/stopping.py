"""Ctrl-C and polite kills: the first one ends the work at its next safe place, a second one the process at once.

Python runs a signal's handler only when the main thread comes back from a library, which may be seconds later, so a
thread of its own hears of signals too: it ends the run of a network that is under way. Must not import anything heavy:
signals that come while the rest is imported are heard as well.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from pixrt.backends.interrupting import allow_runs, interrupt_runs

EXIT_CODE = 130
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # a terminal that is closed ends like a polite kill
CANCELLED = "cancelled"
KEPT = "What was finished before is kept"
_SAME_S = 0.1  # a launcher passes on the Ctrl-C that its child has had too: that is one


class _State:
    """What has come: `told` signals, of which `enough` end the process, and whether the main thread was interrupted."""

    told = 0
    last = 0.0
    enough = 2
    raised = False
    kept: ExitStack | None = None  # what is undone by the process's end only


def was_stopped() -> bool:
    """Whether a signal has interrupted the main thread: whatever it raises now comes of that."""
    return _State.raised


@contextmanager
def watching(*, for_good: bool) -> Iterator[None]:
    """Hear of signals, in the main thread; to the end of the process if `for_good`. Those that are ignored stay so."""
    _State.told, _State.raised, _State.enough = 0, False, 2
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    with ExitStack() as stack:
        if sys.platform != "win32":
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            listening = threading.Thread(target=_listen, args=(reader, {int(each) for each in heard}), daemon=True)
            listening.start()
            stack.callback(allow_runs)  # all that was heard is done by then
            stack.callback(listening.join)
            stack.callback(os.close, writer)
            stack.callback(signal.set_wakeup_fd, earlier)
        for number in heard:
            signal.signal(number, interrupt)
            stack.callback(signal.signal, number, before[number])
        if for_good:
            _State.kept = stack.pop_all()
        yield


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler: raises KeyboardInterrupt, once. A second one would interrupt what the first has begun to clean."""
    del number
    if _State.raised:
        return
    _State.raised = True
    _silence()
    if _imports(frame):  # nothing is under way, and libraries turn what they do not expect there into other errors
        end_at_once()
    raise KeyboardInterrupt


@contextmanager
def asking_first() -> Iterator[Callable[[], bool]]:
    """A function that says whether a signal came: the first one only asks. The second interrupts, a third one ends."""
    asked_at: float | None = None
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if asked_at is None:
            asked_at = time.monotonic()
            print("stopping after this step; again to stop at once", file=sys.stderr, flush=True)
        elif time.monotonic() - asked_at > _SAME_S:
            interrupt(number, frame)

    for number in heard:
        signal.signal(number, ask)
    _State.enough += 1
    try:
        yield lambda: asked_at is not None
    finally:
        _State.enough -= 1
        for number in heard:
            signal.signal(number, before[number])


def leave_to_others() -> None:
    """What runs next has handlers of its own: do not hear of signals any more."""
    signal.set_wakeup_fd(-1)


def end_at_once() -> None:
    """End the process, and say so. What a writer leaves is removed by the next one."""
    shown = "\x1b[?25h" if sys.stderr is not None and sys.stderr.isatty() else ""  # a progress bar hides the cursor
    with suppress(Exception):
        print(f"{shown}error: {CANCELLED}. {KEPT}.", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)


def _listen(reader: int, heard: set[int]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while numbers := pipe.read(64):
            for number in numbers:
                if number in heard:
                    _count()


def _count() -> None:
    now = time.monotonic()
    if _State.told and now - _State.last < _SAME_S:
        return
    _State.told, _State.last = _State.told + 1, now
    if _State.told >= _State.enough:
        end_at_once()
    if _State.told >= _State.enough - 1:
        interrupt_runs()


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _silence() -> None:
    """No traceback of what the interrupt meets in a destructor or a callback."""

    def nothing(*_: Any) -> None:
        pass

    sys.excepthook = sys.unraisablehook = threading.excepthook = nothing
