"""A simulation: the dispatcher and its admission in virtual time, on costs in the place of a device.

Must not import anything but the standard library.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pixrt.dispatch.admission import MARGIN, Admission, Refusal
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher
from pixrt.dispatch.forecast import Span
from pixrt.dispatch.lane import Action, Decode, Step, expected_seconds
from pixrt.dispatch.turns import Rules

Takes = Callable[[Action], float]  # seconds that the device needs for an action
Due = Callable[[float, float, float | None], float]  # see `due_by`


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture that a client asks for: when, which, and until when it has a use for it. Times are seconds."""

    at: float
    bucket: Bucket
    rows: tuple[int, ...]
    deadline: float | None = None


@dataclass(slots=True)
class Outcome:
    """What became of it.

    Attributes:
        alone: seconds that it takes on a device that has nothing else to do.
        expected: what the client was told when it came.
        start: its encoding began.
        end: its decoding ended.
    """

    arrival: Arrival
    alone: float
    refusal: Refusal | None = None
    expected: Span | None = None
    start: float = math.nan
    end: float = math.nan

    @property
    def latency(self) -> float:
        """Seconds from its arrival to its end."""
        return self.end - self.arrival.at

    @property
    def slowdown(self) -> float:
        """Its latency in times of what it takes alone."""
        return self.latency / self.alone

    @property
    def in_time(self) -> bool:
        """Whether it was made, and by its deadline if it had one."""
        deadline = self.arrival.deadline
        return self.refusal is None and (deadline is None or self.end <= deadline)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of all, in the order in which they came; the time when the last was done, and the device's work."""

    outcomes: tuple[Outcome, ...]
    end: float
    busy: float
    calls: int
    rows: int


class Simulation:
    """One device. Without `takes` it takes what the costs say, and equal steps are taken at once."""

    def __init__(
        self,
        costs: Costs,
        rules: Rules | None = None,
        *,
        seats: int = 1_000_000,
        margin: float = MARGIN,
        takes: Takes | None = None,
        due: Due = due_by,
    ) -> None:
        self._costs = costs
        self._takes = takes
        self._due = due
        self._dispatcher = Dispatcher(costs, rules or Rules())
        self._admission = Admission(self._dispatcher, seats, margin)
        self._outcomes: list[Outcome] = []

    def run(self, arrivals: Iterable[Arrival]) -> Simulated:
        """Let these come, and go on until all are done."""
        coming = deque(sorted(arrivals, key=lambda arrival: arrival.at))
        dispatcher = self._dispatcher
        now = busy = 0.0
        calls = rows = 0
        while coming or len(dispatcher):
            if not len(dispatcher):
                now = max(now, coming[0].at)
            self._come(coming, now)
            action = dispatcher.next(now)
            if action is None:
                continue
            each, times = self._seconds(action), 1
            if isinstance(action, Step):
                if self._takes is None and dispatcher.steady > 1:
                    before_next = math.floor((coming[0].at - now) / each) if coming else dispatcher.steady
                    times = max(1, min(dispatcher.steady, before_next))
                calls, rows = calls + times, rows + times * action.rows
            else:
                outcome = self._outcomes[action.picture.demand.id]
                if isinstance(action, Decode):
                    outcome.end = now + each
                else:
                    outcome.start = now
            busy += times * each
            now += times * each
            self._come(coming, now)
            dispatcher.ran(each, times)
        return Simulated(tuple(self._outcomes), now, busy, calls, rows)

    def _seconds(self, action: Action) -> float:
        return expected_seconds(action, self._costs) if self._takes is None else self._takes(action)

    def _come(self, coming: deque[Arrival], now: float) -> None:
        while coming and coming[0].at <= now:
            self._arrive(coming.popleft())

    def _arrive(self, arrival: Arrival) -> None:
        alone = self._costs.alone(arrival.bucket, arrival.rows)
        outcome = Outcome(arrival, alone)
        due = self._due(arrival.at, alone, arrival.deadline)
        demand = Demand(len(self._outcomes), arrival.bucket, arrival.rows, due, arrival.deadline)
        self._outcomes.append(outcome)
        outcome.refusal = self._admission.hold(1, arrival.at)
        if outcome.refusal is None:
            answer = self._admission.admit((demand,), arrival.at)
            if isinstance(answer, Refusal):
                outcome.refusal = answer
            else:
                outcome.expected = answer[0]
