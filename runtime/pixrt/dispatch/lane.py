"""A lane: the pictures of one bucket, in the order in which they are due, and what of them is done next.

The same choice is made for the device and in a forecast. Must not import anything but the standard library.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterator
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

    @property
    def in_pool(self) -> bool:
        """Whether it has a slot."""
        return self.where == "stepping" or self.where == "ended"

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


def expected_seconds(action: Action, costs: Costs) -> float:
    """What an action is expected to take."""
    if isinstance(action, Step):
        return costs.step(action.pictures[0].demand.bucket, action.rows)
    return costs.stage(action.picture.demand.bucket, "encode" if isinstance(action, Encode) else "decode")


def _order(picture: Progress) -> tuple[float, int]:
    return picture.order


class Lane:
    """See the module. `slots` is how many pictures may be in the pool.

    `phased` keeps one stage's network open at a time: all encode, then step, then decode.
    """

    def __init__(self, bucket: Bucket, slots: int, phased: bool = False) -> None:
        self.bucket = bucket
        self.slots = slots
        self.deficit = 0.0
        self._phased = phased
        self._preparing: list[Progress] = []
        self._waiting: list[Progress] = []  # this list and the next two are in order
        self._stepping: list[Progress] = []
        self._ended: list[Progress] = []
        self._rows_waiting: Counter[int] = Counter()  # how many of those that wait begin with so many rows
        self._least_waiting = 0  # of these rows

    def __len__(self) -> int:
        return len(self._preparing) + len(self._waiting) + len(self._stepping) + len(self._ended)

    def __iter__(self) -> Iterator[Progress]:
        for pictures in (self._ended, self._stepping, self._waiting, self._preparing):
            yield from pictures

    @property
    def in_pool(self) -> int:
        """Pictures that have a slot."""
        return len(self._stepping) + len(self._ended)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to do: not if all its pictures are being prepared."""
        return bool(self._waiting or self._stepping or self._ended)

    @property
    def first(self) -> Progress:
        """The picture that is due first, of those that are ready; there must be one."""
        heads = (each[0] for each in (self._ended, self._stepping, self._waiting) if each)
        return min(heads, key=_order)

    def add(self, picture: Progress) -> None:
        """A picture in its place; of equal ones the earlier comes first."""
        insort(self._place(picture), picture, key=_order)
        if picture.where == "waiting":
            self._rows_waiting[picture.demand.rows[0]] += 1
            self._least_waiting = min(self._rows_waiting)

    def remove(self, picture: Progress) -> None:
        """Take a picture out, wherever it is."""
        self._place(picture).remove(picture)
        if picture.where == "waiting":
            rows = picture.demand.rows[0]
            self._rows_waiting[rows] -= 1
            if not self._rows_waiting[rows]:
                del self._rows_waiting[rows]
                self._least_waiting = min(self._rows_waiting, default=0)

    def move(self, picture: Progress, where: Where) -> None:
        """A picture has come further."""
        self.remove(picture)
        picture.where = where
        self.add(picture)

    def _place(self, picture: Progress) -> list[Progress]:
        match picture.where:
            case "preparing":
                return self._preparing
            case "waiting":
                return self._waiting
            case "stepping":
                return self._stepping
            case "ended":
                return self._ended

    def choose(self, costs: Costs, haste: int = 0) -> Action:
        """What to do next; there must be something. `haste`: see `Dispatcher.hastes`.

        A picture that has ended is decoded at once: nothing else makes anybody wait less. Then whole pictures, by
        what is due first, as many rows as the cap allows; what does not fit is passed by one that does. Those of them
        that wait are encoded before the step is taken.
        """
        if self._ended and not self._phased:
            return Decode(self._ended[0])
        begun = self._phased and (self._ended or any(each.at for each in self._stepping))
        chosen, rows = self._pick(costs, haste, 0 if begun else self.slots - self.in_pool)
        if not chosen:
            return Decode(self._ended[0])
        waiting = next((each for each in chosen if each.where == "waiting"), None)
        return Step(tuple(chosen), rows) if waiting is None else Encode(waiting)

    def _pick(self, costs: Costs, haste: int, free: int) -> tuple[list[Progress], int]:
        """Pictures of the next step and their rows, with so many free slots.

        Up to the usual cap; if what is left would fill another such call, up to the highest. In haste fewer: a call of
        a quarter of the rows, or of a half, is less of a bargain and is done sooner, for those that are due first.
        """
        usual, most = costs.caps(self.bucket)
        if haste > 1:
            return self._within(usual * (5 - haste) // 4, free)
        chosen, rows = self._within(usual, free)
        if most > usual and len(chosen) < len(self._stepping) + len(self._waiting):
            left = sum(each.demand.rows[each.at] for each in self._stepping) - rows
            left += sum(rows * count for rows, count in self._rows_waiting.items())
            if left >= usual:
                return self._within(most, free)
        return chosen, rows

    def _within(self, cap: int, free: int) -> tuple[list[Progress], int]:
        """By what is due first, whole pictures, up to so many rows, and one at least."""
        stepping, waiting = self._stepping, self._waiting
        chosen: list[Progress] = []
        rows, i, j = 0, 0, 0
        most_waiting = len(waiting) if free > 0 else 0
        while True:
            # Those that wait are many: none of them is looked at once none of them can fit.
            fits = j < most_waiting and (not chosen or rows + self._least_waiting <= cap)
            if i < len(stepping) and not (fits and waiting[j].order < stepping[i].order):
                each = stepping[i]
                i += 1
            elif fits:
                each = waiting[j]
                j += 1
            else:
                return chosen, rows
            more = each.demand.rows[each.at]
            if chosen and rows + more > cap:
                continue
            chosen.append(each)
            rows += more
            if each.where == "waiting":
                free -= 1
                if not free:
                    most_waiting = 0

    def steady(self, step: Step) -> int:
        """How often a step would be chosen in a row, if no picture came or went."""
        return min(each.demand.spans[each.at] - each.at for each in step.pictures)

    def done(self, action: Action, times: int = 1) -> None:
        """An action was done; a step so many times."""
        if isinstance(action, Step):
            for each in action.pictures:
                each.at += times
                if each.at == len(each.demand.rows):
                    self.move(each, "ended")
        elif isinstance(action, Encode):
            self.move(action.picture, "stepping")
        else:
            self.remove(action.picture)

    def copy(self) -> "Lane":
        """For a forecast."""
        lane = Lane(self.bucket, self.slots, self._phased)
        lane.deficit = self.deficit
        lane._waiting = [each.copy() for each in self._waiting]
        lane._stepping = [each.copy() for each in self._stepping]
        lane._ended = [each.copy() for each in self._ended]
        lane._rows_waiting, lane._least_waiting = self._rows_waiting.copy(), self._least_waiting
        for each in self._preparing:
            lane.add(each.copy())
        return lane
