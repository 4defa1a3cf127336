"""A simulation: the dispatcher and its admission in virtual time, on costs in the place of a device.

Must not import anything but the standard library.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pixrt.dispatch.admission import MARGIN, Admission, Refusal
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher
from pixrt.dispatch.forecast import Span
from pixrt.dispatch.lane import Action, Decode, Encode, Step, expected_seconds
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
    """One device. Without `takes` it takes what the costs say, and equal steps are taken at once.

    `run` is the whole of it. Who has several devices lets pictures come one by one: `go` to the time, then `arrive`.
    """

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
        self.now = 0.0
        self._costs = costs
        self._takes = takes
        self._due = due
        self._dispatcher = Dispatcher(costs, rules or Rules())
        self._admission = Admission(self._dispatcher, seats, margin)
        self._outcomes: list[Outcome] = []
        self._running: _Running | None = None
        self._busy = 0.0
        self._calls = self._rows = 0

    def run(self, arrivals: Iterable[Arrival]) -> Simulated:
        """Let these come, and go on until all are done."""
        for arrival in sorted(arrivals, key=lambda arrival: arrival.at):
            self.go(arrival.at)
            self.arrive(arrival)
        self.go()
        return self.simulated

    @property
    def simulated(self) -> Simulated:
        """What has come of it until now; the outcome of a picture that is under way has no end."""
        return Simulated(tuple(self._outcomes), self.now, self._busy, self._calls, self._rows)

    @property
    def done_by(self) -> float:
        """When all that has been taken on is expected to be done: what a server calls its backlog."""
        return max((span.end for span in self._dispatcher.forecast(self.now).values()), default=self.now)

    def go(self, until: float = math.inf) -> None:
        """Go on to that time, or until nothing is left; what runs then, or ends at it, is not done yet."""
        while True:
            if self._running is None and not self._begin(until):
                self.now = max(self.now, until) if until < math.inf else self.now
                return
            assert self._running is not None
            if self._running.end >= until < math.inf:
                return
            self._finish(self._running)

    def _begin(self, until: float) -> bool:
        """Begin the next action, or so many equal ones that none runs then; whether there is one."""
        action = self._dispatcher.next(self.now)
        if action is None:
            return False
        each, times = self._seconds(action), 1
        if isinstance(action, Step):
            if self._takes is None and self._dispatcher.steady > 1:
                before = self._dispatcher.steady if until == math.inf else math.floor((until - self.now) / each)
                times = max(1, min(self._dispatcher.steady, before))
        elif isinstance(action, Encode):
            self._outcomes[action.picture.demand.id].start = self.now
        self._running = _Running(action, each, times, self.now + times * each)
        return True

    def _finish(self, running: "_Running") -> None:
        action, times = running.action, running.times
        self.now, self._running = running.end, None
        self._busy += times * running.each
        if isinstance(action, Step):
            self._calls, self._rows = self._calls + times, self._rows + times * action.rows
        elif isinstance(action, Decode):
            self._outcomes[action.picture.demand.id].end = self.now
        self._dispatcher.ran(running.each, times)

    def _seconds(self, action: Action) -> float:
        return expected_seconds(action, self._costs) if self._takes is None else self._takes(action)

    def arrive(self, arrival: Arrival) -> Outcome:
        """A picture comes, at the time to which this has gone: `go` must be called first."""
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
        return outcome


@dataclass(frozen=True, slots=True)
class _Running:
    """What a device does, so many times in a row, each in so many seconds."""

    action: Action
    each: float
    times: int
    end: float
