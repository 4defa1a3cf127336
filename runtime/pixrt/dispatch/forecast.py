"""A forecast: what a dispatcher's choices lead to, on copies of its lanes, with the costs in the place of the device.

Several equal steps are taken at once, and lanes share the device at the same time instead of in turn: what it says is
exact for one lane, and within a turn of each for several. Must not import anything but the standard library.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.lane import Action, Decode, Encode, Lane, Progress, Step, expected_seconds
from pixrt.dispatch.rules import Rules

_INSTANT = 1e-9  # seconds; less than that is rounding


@dataclass(frozen=True, slots=True)
class Span:
    """When a picture is expected to begin, or has begun, and to be done."""

    start: float
    end: float


class Forecast:
    """See the module. `starts` and `ends` are of pictures, by id, as far as `run` has come, which is at `now`."""

    def __init__(
        self, lanes: Iterable[Lane], rules: Rules, costs: Costs, haste: int, now: float, starts: Mapping[int, float]
    ) -> None:
        self.now = now
        self.starts = dict(starts)
        self.ends: dict[int, float] = {}
        self._lanes = {lane.bucket: lane.copy() for lane in lanes}
        self._rules = rules
        self.haste = haste
        self._costs = costs
        # What each lane does, how many times, and the seconds that are left of it.
        self._going: dict[Lane, tuple[Action, int, float]] = {}

    def finish(self, bucket: Bucket, action: Action, end: float) -> None:
        """Let the copies do what runs at the moment, until then."""
        self.now = max(self.now, end)
        lane = self._lanes.get(bucket)
        if lane is None:
            return
        copies = {each.demand.id: each for each in lane}
        if isinstance(action, Step):
            kept = tuple(copies[each.demand.id] for each in action.pictures if each.demand.id in copies)
            lane.done(action._replace(pictures=kept))
        elif action.picture.demand.id in copies:
            self._done(lane, action._replace(picture=copies[action.picture.demand.id]), 1)

    def add(self, demand: Demand, slots: int) -> None:
        """A picture that comes now, into a bucket of so many slots."""
        bucket = demand.bucket
        if bucket not in self._lanes:
            self._lanes[bucket] = Lane(bucket, slots, self._rules.phased)
        self._lanes[bucket].add(Progress(demand))

    def run(self, until: float = math.inf) -> None:
        """Go on, to that time or until nothing is left."""
        going = self._going
        while self.now < until:
            for lane in self._rules.eligible(self._lanes.values()):
                if lane not in going:
                    going[lane] = self._ahead(lane)
            if not going:
                break
            share = len(going)
            passed = min(left for _, _, left in going.values())
            if self.now + passed * share > until:
                self._stop((until - self.now) / share)
                break
            self.now += passed * share
            for lane, (action, times, left) in tuple(going.items()):
                if left - passed > _INSTANT:
                    going[lane] = action, times, left - passed
                else:
                    del going[lane]
                    self._done(lane, action, times)
        if until < math.inf:
            self.now = max(self.now, until)

    def _ahead(self, lane: Lane) -> tuple[Action, int, float]:
        """What a lane does next, as many times as nothing changes, and the seconds of that."""
        action = lane.choose(self._costs, self.haste)
        if isinstance(action, Encode):
            self.starts.setdefault(action.picture.demand.id, self.now)
        times = lane.steady(action) if isinstance(action, Step) else 1
        return action, times, times * expected_seconds(action, self._costs)

    def _done(self, lane: Lane, action: Action, times: int) -> None:
        lane.done(action, times)
        if isinstance(action, Decode):
            self.ends[action.picture.demand.id] = self.now

    def _stop(self, passed: float) -> None:
        """Lanes go on for so long, and what they do then is the last of its kind: something new may follow it."""
        for lane, (action, times, left) in tuple(self._going.items()):
            each = expected_seconds(action, self._costs)
            to_go = (left - passed) / each  # of `times`, with a part of the one that runs
            running = math.ceil(to_go - _INSTANT)
            if times > running:
                lane.done(action, times - running)
            if running:
                self._going[lane] = action, 1, (to_go - running + 1) * each
            else:
                del self._going[lane]
