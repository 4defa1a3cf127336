"""Ending runs of networks that are under way, from another thread: a stop need not wait for them. Imports nothing."""

from collections.abc import Callable

_enders: list[Callable[[], None]] = []


def on_interrupt(end: Callable[[], None]) -> None:
    """Have a backend told when its runs are to end. What it runs raises Cancelled from then on."""
    _enders.append(end)


def interrupt_runs() -> None:
    """End what runs in this process, for good."""
    for end in _enders:
        end()
