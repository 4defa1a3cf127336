"""The shelf: tickets that their clients may come back for, until some time after their end.

Must not import numpy or Pillow.
"""

from collections.abc import Iterator

from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Ticket

_PLAIN_BYTES = 4096  # of a ticket without text or pictures


class Shelf:
    """Keeps tickets so many seconds after their end, and so many bytes of results; the oldest go first."""

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._tickets: dict[str, Ticket] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets.values())

    @property
    def bytes(self) -> int:
        """Of the tickets that have ended: results, previews and texts."""
        return sum(_bytes(ticket) for ticket in self._tickets.values() if ticket.ended is not None)

    def add(self, ticket: Ticket) -> None:
        """Keep a ticket."""
        self._tickets[ticket.id] = ticket

    def find(self, id: str, client: str) -> Ticket:
        """A client's ticket. Raises Problem 404; another client's is as good as none."""
        ticket = self._tickets.get(id)
        if ticket is None or ticket.client != client:
            message = f"There is no job {id!r:.60}. Results are kept for {self._seconds:g} s."
            raise Problem(404, "job_not_found", message)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Let go of a ticket."""
        self._tickets.pop(ticket.id, None)

    def of(self, client: str) -> list[Ticket]:
        """A client's tickets, oldest first."""
        return [ticket for ticket in self._tickets.values() if ticket.client == client]

    def tidy(self, now: float) -> None:
        """Let go of what has been here long enough, or is too much."""
        held = 0
        for ticket in tuple(reversed(self._tickets.values())):
            if ticket.ended is not None:
                held += _bytes(ticket)
                if now - ticket.ended > self._seconds or held > self._most_bytes:
                    del self._tickets[ticket.id]


def _bytes(ticket: Ticket) -> int:
    """What a ticket takes that has ended."""
    result = 0 if ticket.result is None else len(ticket.result.data)
    texts = len(ticket.asked.text) + len(ticket.asked.options.negative_prompt)
    return _PLAIN_BYTES + 4 * texts + ticket.preview_bytes + result
