"""Ending runs of networks that are under way, from another thread: a stop need not wait for them. Imports nothing."""

from collections.abc import Callable

_enders: list[Callable[[bool], None]] = []


def on_interrupt(end: Callable[[bool], None]) -> None:
    """Have a backend told when its runs are to end (True), and when they may go on (False).

    What it runs between the two raises Cancelled.
    """
    _enders.append(end)


def interrupt_runs() -> None:
    """End what runs in this process, and whatever is begun until `allow_runs`."""
    for end in _enders:
        end(True)


def allow_runs() -> None:
    """Networks may run again: what was to be ended has ended."""
    for end in _enders:
        end(False)
