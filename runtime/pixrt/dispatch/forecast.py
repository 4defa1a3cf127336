"""A forecast: what a dispatcher's choices lead to, on copies of its lanes, with the costs in the place of the device.

Exact, if calls take what they cost and nothing else comes. Must not import anything but the standard library.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.lane import Action, Decode, Encode, Lane, Progress, Step, expected_seconds
from pixrt.dispatch.turns import Rules, next_lane, share_of


@dataclass(frozen=True, slots=True)
class Span:
    """When a picture is expected to begin, or has begun, and to be done."""

    start: float
    end: float


@dataclass(slots=True)
class _Doing:
    """What a lane does, `done` of so many times; the same as long as no picture comes or goes."""

    action: Action
    seconds: float
    times: int
    done: int = 0


class Forecast:
    """See the module. `starts` and `ends` are of pictures, by id, as far as `run` has come, which is at `now`."""

    def __init__(
        self, lanes: Iterable[Lane], rules: Rules, costs: Costs, haste: int, now: float, starts: Mapping[int, float]
    ) -> None:
        self.now = now
        self.starts = dict(starts)
        self.ends: dict[int, float] = {}
        self.haste = haste
        self._lanes = {lane.bucket: lane.copy() for lane in lanes}
        self._rules = rules
        self._costs = costs
        self._doing: dict[Lane, _Doing] = {}
        self._emptied: list[Bucket] = []

    def finish(self, bucket: Bucket, action: Action, end: float) -> None:
        """Let the copies do what runs at the moment, until then."""
        lane, seconds = self._lanes.get(bucket), expected_seconds(action, self._costs)
        self.now = max(self.now, end)
        if lane is None:
            return
        lane.deficit -= seconds
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

    def run(self, until: float = math.inf, stop: Callable[[int, float], bool] | None = None) -> None:
        """Go on, to that time or until nothing is left; what runs at that time is finished.

        `stop` is asked of each picture's id and end: the rest does not matter once it says so.
        """
        while self.now < until:
            self._tidy()
            eligible = self._rules.eligible(self._lanes.values())
            if not eligible:
                break
            made = self._run(eligible, until)
            if made is not None and stop is not None and stop(made, self.now):
                return
        if self.now <= until:
            self._tidy()
        for lane, doing in self._doing.items():
            lane.done(doing.action, doing.done)
        self._doing.clear()
        if until < math.inf:
            self.now = max(self.now, until)

    def _run(self, eligible: list[Lane], until: float) -> int | None:
        """Go on until other lanes may be eligible; the picture that is done then, if one is."""
        share = share_of(eligible, self._costs)
        while self.now < until:
            lane = next_lane(self._lanes, eligible, share, self.haste)
            doing = self._doing.get(lane) or self._begin(lane)
            times = 1
            if len(eligible) == 1 or self.haste:  # the turn is still the same lane's
                times = doing.times - doing.done
                if until < math.inf:
                    times = max(1, min(times, math.ceil((until - self.now) / doing.seconds)))
            lane.deficit -= doing.seconds
            self.now += times * doing.seconds
            doing.done += times
            if doing.done == doing.times:
                del self._doing[lane]
                self._done(lane, doing.action, doing.times)
                if not isinstance(doing.action, Step):
                    return doing.action.picture.demand.id if isinstance(doing.action, Decode) else None
        return None

    def _begin(self, lane: Lane) -> _Doing:
        action = lane.choose(self._costs, self.haste)
        if isinstance(action, Encode):
            self.starts.setdefault(action.picture.demand.id, self.now)
        times = lane.steady(action) if isinstance(action, Step) else 1
        doing = self._doing[lane] = _Doing(action, expected_seconds(action, self._costs), times)
        return doing

    def _done(self, lane: Lane, action: Action, times: int) -> None:
        lane.done(action, times)
        if isinstance(action, Decode):
            self.ends[action.picture.demand.id] = self.now
            self._emptied.append(lane.bucket)

    def _tidy(self) -> None:
        """Forget lanes without pictures. One that gets a picture while its last one is decoded keeps its turn."""
        for bucket in self._emptied:
            if not self._lanes.get(bucket, True):
                del self._lanes[bucket]
        self._emptied.clear()
