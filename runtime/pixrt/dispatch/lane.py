"""A lane: the pictures of one bucket, in the order in which they are due, and what of them is done next.

The same choice is made for the device and in a forecast. Must not import anything but the standard library.
"""

from bisect import insort
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand

Where = Literal["preparing", "waiting", "stepping", "ended"]


@dataclass(slots=True, eq=False)
class Progress:
    """How far a picture has come: it is prepared, waits, has made `at` of its steps, or waits to be decoded."""

    demand: Demand
    where: Where = "waiting"
    at: int = 0
    order: tuple[float, int] = (0.0, 0)

    def __post_init__(self) -> None:
        self.order = self.demand.due, self.demand.id

    def copy(self) -> "Progress":
        """A picture's for a forecast, in which it is prepared already."""
        return Progress(self.demand, "waiting" if self.where == "preparing" else self.where, self.at)


class Encode(NamedTuple):
    """Encode a picture; it is in the pool then."""

    picture: Progress


class Step(NamedTuple):
    """Advance these pictures by one step, in one call of so many rows."""

    pictures: tuple[Progress, ...]
    rows: int


class Decode(NamedTuple):
    """Decode a picture that has ended; it is done then."""

    picture: Progress


Action: TypeAlias = Encode | Step | Decode


class Lane:
    """See the module. `slots` is how many pictures may be in the pool.

    `phased` keeps one stage's network open at a time: all encode, then step, then decode.
    """

    def __init__(self, bucket: Bucket, slots: int, phased: bool = False) -> None:
        self.bucket = bucket
        self.slots = slots
        self.deficit = 0.0
        self._phased = phased
        self.pictures: list[Progress] = []  # in order
        self.in_pool = 0

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to do: not if all its pictures are being prepared."""
        return any(each.where != "preparing" for each in self.pictures)

    def add(self, picture: Progress) -> None:
        """A picture in its place; of equal ones the earlier comes first."""
        insort(self.pictures, picture, key=lambda each: each.order)
        self.in_pool += picture.where in ("stepping", "ended")

    def remove(self, picture: Progress) -> None:
        """Take a picture out, wherever it is."""
        self.pictures.remove(picture)
        self.in_pool -= picture.where in ("stepping", "ended")

    def choose(self, costs: Costs) -> Action:
        """What to do next; the lane must not be empty.

        A picture that has ended is decoded at once: nothing else makes anybody wait less. Then whole pictures, by
        what is due first, as many rows as the cap allows; what does not fit is passed by one that does. Those of them
        that wait are encoded before the step is taken.
        """
        ended = next((each for each in self.pictures if each.where == "ended"), None)
        if ended is not None and not self._phased:
            return Decode(ended)
        begun = self._phased and any(each.at for each in self.pictures)
        chosen, rows = self._pick(costs, 0 if begun else max(0, self.slots - self.in_pool))
        if not chosen:
            assert ended is not None
            return Decode(ended)
        waiting = next((each for each in chosen if each.where == "waiting"), None)
        return Step(tuple(chosen), rows) if waiting is None else Encode(waiting)

    def _pick(self, costs: Costs, free: int) -> tuple[list[Progress], int]:
        """Pictures of the next step and their rows, with so many free slots: up to the cap, which a backlog raises."""
        usual, most = costs.caps(self.bucket)
        chosen, rows = self._within(usual, free)
        if most > usual and len(chosen) < len(self.pictures):
            chosen, rows = self._within(most, free)
        return chosen, rows

    def _within(self, cap: int, free: int) -> tuple[list[Progress], int]:
        chosen: list[Progress] = []
        rows = 0
        for each in self.pictures:
            if each.where in ("preparing", "ended") or (each.where == "waiting" and not free):
                continue
            more = each.demand.rows[each.at]
            if chosen and rows + more > cap:
                if rows >= cap:
                    break
                continue
            chosen.append(each)
            rows += more
            free -= each.where == "waiting"
        return chosen, rows

    def done(self, action: Action, times: int = 1) -> None:
        """An action was done; a step so many times."""
        if isinstance(action, Step):
            for each in action.pictures:
                each.at += times
                if each.at == len(each.demand.rows):
                    each.where = "ended"
        elif isinstance(action, Encode):
            action.picture.where = "stepping"
            self.in_pool += 1
        else:
            self.remove(action.picture)

    def copy(self) -> "Lane":
        """For a forecast."""
        lane = Lane(self.bucket, self.slots, self._phased)
        lane.pictures = [each.copy() for each in self.pictures]
        lane.in_pool = self.in_pool
        return lane
