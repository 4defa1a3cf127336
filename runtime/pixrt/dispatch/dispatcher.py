"""The dispatcher: which of all pictures use a device next, and when each will be done.

It has no clock, no thread and no arrays: whoever drives a device asks `next`, does it, and says `ran`. The server, a
gallery and the simulator do so with the same object. Must not import anything but the standard library.
"""

from dataclasses import dataclass

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.lane import Action, Decode, Encode, Lane, Progress, Step


@dataclass(frozen=True, slots=True)
class Span:
    """When a picture is expected to begin, or has begun, and to be done."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What a device can have at once.

    Attributes:
        buckets: with pictures in a pool; None is any number.
        variants: other weights with pictures in a pool, beside the network's own (`()`); None is any number.
        phased: one stage's network is open at a time.
    """

    buckets: int | None = None
    variants: int | None = None
    phased: bool = False


class Dispatcher:
    """See the module. A picture is known by its demand's `id`."""

    def __init__(self, costs: Costs, rules: Rules = Rules()) -> None:  # it is frozen
        self.costs = costs
        self._rules = rules
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
        self._lane(self._lanes, demand.bucket).add(picture)

    def _lane(self, lanes: dict[Bucket, Lane], bucket: Bucket) -> Lane:
        if bucket not in lanes:
            lanes[bucket] = Lane(bucket, self._limits.get(bucket, bucket.slots), self._rules.phased)
        return lanes[bucket]

    def remove(self, id: int) -> bool:
        """Forget a picture, wherever it is; whether it has a place in a pool, which must be left."""
        picture = self._pictures.pop(id)
        self._begun.pop(id, None)
        lane = self._lanes[picture.demand.bucket]
        lane.remove(picture)
        self._tidy(lane)
        return picture.where in ("stepping", "ended")

    def ready(self, id: int) -> None:
        """A picture is prepared."""
        self._pictures[id].where = "waiting"

    def limit(self, bucket: Bucket, slots: int) -> None:
        """From now on a bucket has only so many pictures in its pool: more were too many for the device."""
        self._limits[bucket] = slots
        if bucket in self._lanes:
            self._lanes[bucket].slots = slots

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
        lane = self._turn()
        if lane is None:
            return None
        action = lane.choose(self.costs)
        if isinstance(action, Encode):
            self._begun.setdefault(action.picture.demand.id, now)
        self._running = lane, action, now
        return action

    def ran(self, seconds: float) -> None:
        """The action was done, and took so long. A picture that was removed meanwhile is left out of it."""
        assert self._running is not None
        lane, action, _ = self._running
        self._running = None
        lane.deficit -= seconds
        bucket = lane.bucket
        if isinstance(action, Step):
            self.costs.learn_step(bucket, action.rows, seconds)
            kept = tuple(each for each in action.pictures if each.demand.id in self._pictures)
            lane.done(action._replace(pictures=kept))
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

    def failed(self) -> None:
        """The action was not done; what becomes of its pictures `remove` and `again` say."""
        self._running = None

    def _tidy(self, lane: Lane) -> None:
        if not lane:
            del self._lanes[lane.bucket]

    def _turn(self) -> Lane | None:
        """Deficit round robin in seconds (Shreedhar and Varghese 1995): lanes share the device whatever a call costs.

        A lane goes on while it has some of its share left; what a call takes beyond it is owed.
        """
        lanes = self._eligible()
        if not lanes:
            return None
        if len(lanes) == 1:
            return lanes[0]
        quantum = max(self.costs.step(lane.bucket, self.costs.caps(lane.bucket)[0]) for lane in lanes)
        while True:
            for lane in lanes:
                if lane.deficit > 0:
                    return lane
                # Its turn is over: it goes to the end of the line, with a share for its next one.
                lane.deficit += quantum
                self._lanes[lane.bucket] = self._lanes.pop(lane.bucket)

    def _eligible(self) -> list[Lane]:
        """Lanes that may go on; others wait until one of those in a pool is empty."""
        lanes = [lane for lane in self._lanes.values() if lane.is_ready]
        if self._rules.buckets is None and self._rules.variants is None:
            return lanes
        inside = [lane for lane in lanes if lane.in_pool]
        outside = sorted((lane for lane in lanes if not lane.in_pool), key=lambda lane: lane.pictures[0].order)
        variants = {lane.bucket.variant for lane in inside} - {()}
        for lane in outside:
            if self._rules.buckets is not None and len(inside) >= self._rules.buckets:
                break
            variant = lane.bucket.variant
            if variant != () and variant not in variants and len(variants) == self._rules.variants:
                continue
            inside.append(lane)
            variants |= {variant} - {()}
        return [lane for lane in lanes if lane in inside]

    def forecast(self, now: float, extra: tuple[Demand, ...] = ()) -> dict[int, Span]:
        """When every picture will begin and be done, these ones among them, if nothing else comes.

        The same choices on copies, with the costs in the place of the device: several equal steps are taken at once,
        and lanes share the device at the same time instead of in turn.
        """
        lanes = {bucket: lane.copy() for bucket, lane in self._lanes.items()}
        starts = dict(self._begun)
        ends: dict[int, float] = {}
        if self._running is not None:
            now = self._finish_running(lanes, ends, now)
        for demand in extra:
            self._lane(lanes, demand.bucket).add(Progress(demand))
        going: dict[Lane, tuple[Action, int, float]] = {}  # what each does, how many times, and what is left of it
        while True:
            for lane in lanes.values():
                if lane and lane not in going:
                    going[lane] = self._ahead(lane)
                    action = going[lane][0]
                    if isinstance(action, Encode):
                        starts.setdefault(action.picture.demand.id, now)
            if not going:
                break
            least, share = min(left for _, _, left in going.values()), len(going)
            now += least * share
            for lane, (action, times, left) in tuple(going.items()):
                if left - least > 1e-9:
                    going[lane] = action, times, left - least
                    continue
                del going[lane]
                lane.done(action, times)
                if isinstance(action, Decode):
                    ends[action.picture.demand.id] = now
        return {id: Span(starts[id], end) for id, end in ends.items()}

    def _ahead(self, lane: Lane) -> tuple[Action, int, float]:
        """What a lane does next, as many times as nothing changes, and the seconds of that."""
        action, costs, bucket = lane.choose(self.costs), self.costs, lane.bucket
        if isinstance(action, Step):
            times = min(each.demand.spans[each.at] - each.at for each in action.pictures)
            return action, times, times * costs.step(bucket, action.rows)
        return action, 1, costs.stage(bucket, "encode" if isinstance(action, Encode) else "decode")

    def _finish_running(self, lanes: dict[Bucket, Lane], ends: dict[int, float], now: float) -> float:
        """Let the copies do what runs at the moment; when that is over."""
        assert self._running is not None
        lane, action, began = self._running
        bucket, costs = lane.bucket, self.costs
        if isinstance(action, Step):
            seconds = costs.step(bucket, action.rows)
        else:
            seconds = costs.stage(bucket, "encode" if isinstance(action, Encode) else "decode")
        copy = lanes.get(bucket)
        if copy is not None:
            ids = {each.demand.id: each for each in copy.pictures}
            over = max(now, began + seconds)
            if isinstance(action, Step):
                copy.done(Step(tuple(ids[e.demand.id] for e in action.pictures if e.demand.id in ids), action.rows))
            elif action.picture.demand.id in ids:
                copy.done(action._replace(picture=ids[action.picture.demand.id]))
                if isinstance(action, Decode):
                    ends[action.picture.demand.id] = over
        return max(now, began + seconds)
