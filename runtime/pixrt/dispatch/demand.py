"""What a picture asks of a device, known exactly before it begins: the rows of every step, and both halves of the VAE.

Must not import anything but the standard library.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pictures of one bucket may share network calls; nothing else has to be equal.

    Attributes:
        key: the working size and the network.
        variant: the weights that the network has (its LoRA set).
        slots: pictures that may be in its pool at once.
        most_rows: rows that one call takes at most.
        name: for people.
        area: what a row costs beside another bucket's, by its latents; for costs that nobody has measured yet.
    """

    key: Hashable
    slots: int
    most_rows: int
    area: float = 1.0
    variant: Hashable = ()
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """One picture's.

    Attributes:
        rows: network rows of each of its steps, from the guidance's table.
        due: what is due earlier goes first; where it matters a point in time: see `due_by`.
        deadline: the client has no use for it after that; None if it said nothing.
        spans: for each step, the first later step of another number of rows, or the end.
    """

    id: int
    bucket: Bucket
    rows: tuple[int, ...]
    due: float
    deadline: float | None = None
    spans: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        rows, spans = self.rows, [len(self.rows)] * len(self.rows)
        for at in reversed(range(len(rows) - 1)):
            spans[at] = spans[at + 1] if rows[at] == rows[at + 1] else at + 1
        object.__setattr__(self, "spans", tuple(spans))


STRETCH = 2.5  # a picture is due after so many times of what it takes alone


def due_by(arrival: float, alone: float, deadline: float | None) -> float:
    """The virtual deadline by which pictures are ordered: short ones pass long ones, and none waits for ever."""
    due = arrival + STRETCH * alone
    return due if deadline is None else min(due, deadline)
