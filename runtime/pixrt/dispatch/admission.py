"""Admission: whether a device takes on pictures, decided at once, from the forecast of when they would be done.

Must not import anything but the standard library.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pixrt.dispatch.demand import Demand
from pixrt.dispatch.dispatcher import Dispatcher
from pixrt.dispatch.forecast import Span

Reason = Literal["full", "late", "others"]

MARGIN = 0.08  # of the time until a picture's expected end: so much later it may be, if calls vary by 10 %


@dataclass(frozen=True, slots=True)
class Refusal:
    """Pictures that are not taken on.

    Attributes:
        reason: `full`: no seat is left; `late`: their deadline would be missed; `others`: that of one already accepted.
        retry_after: whole seconds after which they would be accepted, if nothing else came meanwhile; None for never:
            more seats than there are, or a deadline too near even for a device that has nothing else to do.
        end: when the last of them would be done, if they were taken on; None where that is not known.
    """

    reason: Reason
    retry_after: int | None
    end: float | None = None


class Admission:
    """The way into a dispatcher, for all who share it. `seats` is how many pictures it takes care of at once.

    A seat is held (`hold`) before it is known what a picture asks of the device, and given back (`release`) if it turns
    out to be none; `admit` decides once that is known. It ends with its picture: nobody has to give it back then.

    `margin`: 0 if calls take exactly what they are expected to.
    """

    def __init__(self, dispatcher: Dispatcher, seats: int, margin: float = MARGIN) -> None:
        self.seats = seats
        self.margin = margin
        self._dispatcher = dispatcher
        self._held = 0

    @property
    def free(self) -> int:
        """Seats that are left."""
        return max(0, self.seats - self._held - len(self._dispatcher))

    def hold(self, count: int, now: float) -> Refusal | None:
        """Take seats for pictures that are asked for together, all or none."""
        if count > self.free:
            return Refusal("full", self.wait(count, now))
        self._held += count
        return None

    def release(self, count: int) -> None:
        """Give seats back that were held."""
        self._held -= count

    def wait(self, count: int, now: float) -> int | None:
        """Whole seconds until so many seats are expected to be free; None for never."""
        if count > self.seats:
            return None
        missing = count - self.free
        ends = sorted(span.end for span in self._dispatcher.forecast(now).values()) if missing > 0 else []
        return max(0, math.ceil(ends[min(missing, len(ends)) - 1] - now)) if ends else 0

    def admit(self, demands: Sequence[Demand], now: float, *, ready: bool = True) -> tuple[Span, ...] | Refusal:
        """Add pictures whose seats are held to the dispatcher, all or none; when each is expected to begin and to end.

        They are refused if one would miss its deadline, or make a picture that was accepted miss its own, however the
        dispatcher hastens. Their seats are free again then. `ready`: see `Dispatcher.add`.
        """
        self._held -= len(demands)
        trial = _Trial(self._dispatcher, self.margin, now)
        plan = trial.plan(demands, now)
        if not plan.is_good:
            ends = [plan.spans[demand.id].end for demand in demands if demand.id in plan.spans]
            reason: Reason = "late" if plan.late else "others"
            return Refusal(reason, trial.retry_after(demands, plan), max(ends) if len(ends) == len(demands) else None)
        self._dispatcher.haste = plan.haste
        for demand in plan.demands:
            self._dispatcher.add(demand, ready=ready)
        return tuple(plan.spans[demand.id] for demand in demands)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What would come of pictures, up to the first deadline that is missed: by how much, or whether it is another's."""

    demands: Sequence[Demand]
    haste: int
    spans: Mapping[int, Span]
    late: float
    hurts: bool

    @property
    def is_good(self) -> bool:
        return not self.late and not self.hurts


class _Trial:
    def __init__(self, dispatcher: Dispatcher, margin: float, now: float) -> None:
        self._dispatcher = dispatcher
        self._margin = margin
        self._now = now

    @cached_property
    def _without(self) -> Mapping[int, Span]:
        return self._dispatcher.forecast(self._now)

    def plan(self, demands: Sequence[Demand], at: float) -> _Plan:
        """The first plan that is good, or the first, for pictures that come then.

        First as usual, then in haste, which brings what is due first to its end earlier and costs the device more.
        Pictures that have time, or no deadline, go behind all that have one before they make one of them late.
        """
        first = None
        for haste in self._dispatcher.hastes(demands):
            plan = self._try(demands, haste, at)
            if plan.hurts and (patient := self._behind(demands)) is not None:
                behind = self._try(patient, haste, at)
                plan = behind if behind.is_good else plan
            if plan.is_good:
                return plan
            first = first or plan
        assert first is not None
        return first

    def _behind(self, demands: Sequence[Demand]) -> Sequence[Demand] | None:
        """The pictures, due after all that have a deadline; None if they cannot wait for that."""
        others = (self._dispatcher.progress(id).demand for id in self._without)
        due = max(other.due for other in others if other.deadline is not None)
        if any(due >= (math.inf if demand.deadline is None else demand.deadline) for demand in demands):
            return None
        return [replace(demand, due=max(demand.due, due)) for demand in demands]

    def _try(self, demands: Sequence[Demand], haste: int, at: float) -> _Plan:
        new = {demand.id: demand for demand in demands}
        late: dict[int, float] = {}
        turn = self._dispatcher.turn(demands, haste) if self._margin else 0.0

        def is_missed(id: int, end: float) -> bool:
            demand = new[id] if id in new else self._dispatcher.progress(id).demand
            latest = end + self._margin * (end - at) + turn
            if demand.deadline is None or latest <= demand.deadline:
                return False
            # What is late anyway, because the device was slower than expected, is nobody's fault but the device's.
            if id not in new and end <= self._without[id].end:
                return False
            late[id] = latest - demand.deadline
            return True

        spans = self._dispatcher.forecast(self._now, demands, at=at, haste=haste, stop=is_missed)
        return _Plan(
            demands, haste, spans, max((late[id] for id in late if id in new), default=0.0), bool(late.keys() - new)
        )

    def retry_after(self, demands: Sequence[Demand], plan: _Plan) -> int | None:
        """Whole seconds after which they would be accepted, with deadlines that are as far away then as they are now.

        Tried are: as long as they are late; half of the time until nothing is left; all of it.
        """
        idle = math.ceil(max((span.end for span in self._without.values()), default=self._now) - self._now)
        first = min(max(1, math.ceil(plan.late)), idle)
        most = self._dispatcher.hastes(demands)[-1]
        for seconds in sorted({first, max(first, idle // 2)} - {idle}):
            if self._try([_later(demand, seconds) for demand in demands], most, self._now + seconds).is_good:
                return seconds
        nobody = _Trial(self._dispatcher.emptied(), self._margin, self._now + idle)
        return idle if nobody.plan([_later(demand, idle) for demand in demands], self._now + idle).is_good else None


def _later(demand: Demand, seconds: int) -> Demand:
    deadline = None if demand.deadline is None else demand.deadline + seconds
    return replace(demand, due=demand.due + seconds, deadline=deadline)
