"""The dispatcher: which of all pictures use a device next, and when each will be done.

It has no clock, no thread and no arrays: whoever drives a device asks `next`, does it, and says `ran`. The server, a
gallery and the simulator do so with the same object. Must not import anything but the standard library.
"""

from collections.abc import Callable, Sequence

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.forecast import Forecast, Span
from pixrt.dispatch.lane import Action, Decode, Encode, Lane, Progress, Step, expected_seconds
from pixrt.dispatch.turns import Rules, next_lane, share_of

__all__ = ["Dispatcher", "Rules", "Span"]


class Dispatcher:
    """See the module. A picture is known by its demand's `id`."""

    def __init__(self, costs: Costs, rules: Rules | None = None) -> None:
        self.costs = costs
        self.haste = 0  # one of `hastes`
        self._rules = rules or Rules()
        self._lanes: dict[Bucket, Lane] = {}  # in the order of their turns
        self._pictures: dict[int, Progress] = {}
        self._begun: dict[int, float] = {}
        self._limits: dict[Bucket, int] = {}
        self._running: tuple[Lane, Action, float] | None = None

    def __len__(self) -> int:
        return len(self._pictures)

    def __contains__(self, id: int) -> bool:
        return id in self._pictures

    def add(self, demand: Demand, *, ready: bool = True) -> None:
        """A picture that wants the device; one that is not ready has to be prepared first, and counts in forecasts."""
        picture = self._pictures[demand.id] = Progress(demand, "waiting" if ready else "preparing")
        bucket = demand.bucket
        if bucket not in self._lanes:
            self._lanes[bucket] = Lane(bucket, self._slots(bucket), self._rules.phased)
        self._lanes[bucket].add(picture)

    def ready(self, id: int) -> None:
        """A picture is prepared."""
        picture = self._pictures[id]
        self._lanes[picture.demand.bucket].move(picture, "waiting")

    def remove(self, id: int) -> bool:
        """Forget a picture, wherever it is; whether it has a place in a pool, which must be left."""
        picture = self._pictures.pop(id)
        self._begun.pop(id, None)
        lane = self._lanes[picture.demand.bucket]
        lane.remove(picture)
        self._tidy(lane)
        return picture.in_pool

    def limit(self, bucket: Bucket, slots: int) -> None:
        """From now on a bucket has only so many pictures in its pool: more were too many for the device."""
        self._limits[bucket] = slots
        if bucket in self._lanes:
            self._lanes[bucket].slots = slots

    def _slots(self, bucket: Bucket) -> int:
        return self._limits.get(bucket, bucket.slots)

    def hastes(self, extra: Sequence[Demand]) -> list[int]:
        """What can be done for deadlines, with these pictures, in the order of what it costs the device.

        0: nothing; 1: lanes go on by what is due first, instead of in turn; 2 to 4: and calls have fewer rows.
        """
        most_rows = max(max(demand.rows) for demand in extra)
        has_several = len({*self._lanes, *(demand.bucket for demand in extra)}) > 1
        is_wide = any(self.costs.caps(demand.bucket)[0] > most_rows for demand in extra)
        return [0] + [1] * has_several + [2, 3, 4] * is_wide

    def turn(self, extra: Sequence[Demand], haste: int) -> float:
        """Seconds by which a picture may be done later than expected because a lane's turn came before its own."""
        buckets = {*self._lanes, *(demand.bucket for demand in extra)}
        if haste or len(buckets) == 1:
            return 0.0
        return max(self.costs.step(bucket, self.costs.caps(bucket)[0]) for bucket in buckets)

    def emptied(self) -> "Dispatcher":
        """One for the same device, with the same limits, that has no pictures."""
        dispatcher = Dispatcher(self.costs, self._rules)
        dispatcher._limits = dict(self._limits)
        return dispatcher

    def progress(self, id: int) -> Progress:
        """How far a picture has come."""
        return self._pictures[id]

    def inside(self, bucket: Bucket) -> int:
        """Pictures of a bucket that have a place in its pool."""
        return self._lanes[bucket].in_pool if bucket in self._lanes else 0

    @property
    def row_caps(self) -> dict[str, int]:
        """Rows that a call has at most, usually, by bucket."""
        return {lane.bucket.name: self.costs.caps(lane.bucket)[0] for lane in self._lanes.values()}

    @property
    def waiting(self) -> int:
        """Pictures that are in no pool."""
        return sum(len(lane) - lane.in_pool for lane in self._lanes.values())

    def next(self, now: float) -> Action | None:
        """What the device does now; None if there is nothing. `ran` must follow, or `failed`."""
        eligible = self._rules.eligible(self._lanes.values())
        if not eligible:
            return None
        lane = next_lane(self._lanes, eligible, share_of(eligible, self.costs), self.haste)
        action = lane.choose(self.costs, self.haste)
        if isinstance(action, Encode):
            self._begun.setdefault(action.picture.demand.id, now)
        self._running = lane, action, now
        return action

    def ran(self, seconds: float, times: int = 1) -> None:
        """The action was done, so many times in a row (see `steady`), and took so long each time.

        A picture that was removed meanwhile is left out of it.
        """
        assert self._running is not None
        lane, action, _ = self._running
        self._running = None
        lane.deficit -= seconds  # several times only if it is alone
        bucket = lane.bucket
        if isinstance(action, Step):
            self.costs.learn_step(bucket, action.rows, seconds)
            if any(each.demand.id not in self._pictures for each in action.pictures):
                kept = tuple(each for each in action.pictures if each.demand.id in self._pictures)
                action = action._replace(pictures=kept)
            lane.done(action, times)
            return
        self.costs.learn_stage(bucket, "encode" if isinstance(action, Encode) else "decode", seconds)
        id = action.picture.demand.id
        if id not in self._pictures:
            return
        lane.done(action)
        if isinstance(action, Decode):
            del self._pictures[id]
            self._begun.pop(id, None)
            self._tidy(lane)

    @property
    def steady(self) -> int:
        """How often in a row the action that runs would be the next one, if no picture came or went."""
        assert self._running is not None
        lane, action, _ = self._running
        if not isinstance(action, Step) or len(self._rules.eligible(self._lanes.values())) > 1:
            return 1
        return lane.steady(action)

    def failed(self) -> None:
        """The action was not done; what becomes of its pictures `remove` and `add` say."""
        self._running = None

    def _tidy(self, lane: Lane) -> None:
        if not lane:
            del self._lanes[lane.bucket]

    def forecast(
        self,
        now: float,
        extra: Sequence[Demand] = (),
        *,
        at: float | None = None,
        haste: int | None = None,
        stop: Callable[[int, float], bool] | None = None,
    ) -> dict[int, Span]:
        """When every picture will begin and be done, if nothing else comes but these, now or `at` a later time.

        `haste`: in that from then on, instead of the present one. `stop` is asked of each picture's id and end; those
        after the one of which it says so are left out.
        """
        forecast = Forecast(self._lanes.values(), self._rules, self.costs, self.haste, now, self._begun)
        if self._running is not None:
            lane, action, began = self._running
            forecast.finish(lane.bucket, action, began + expected_seconds(action, self.costs))
        if at is not None:
            forecast.run(at)
        if haste is not None:
            forecast.haste = haste
        for demand in extra:
            forecast.add(demand, self._slots(demand.bucket))
        forecast.run(stop=stop)
        return {id: Span(forecast.starts[id], end) for id, end in forecast.ends.items()}
