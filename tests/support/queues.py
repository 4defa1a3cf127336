"""Pictures that want a device, devices as curves, and whoever drives a dispatcher."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket, Demand
from pixrt.dispatch.dispatcher import Dispatcher
from pixrt.dispatch.lane import Action, Encode, Step

Curve = Callable[[int], float]
CURVES: Mapping[str, Curve] = {
    "a100": lambda rows: (7.5 + 9.1 * rows) / 1000,
    "4090": lambda rows: (31.4 + 9.3 * rows) / 1000,
    "proportional": lambda rows: 11.6 * max(rows, 3) / 1000,
}
MEASURED = (1, 2, 3, 6, 12, 24)
BUCKET = Bucket("512x512", slots=8, most_rows=24)


def costs_of(curve: str | Curve, *buckets: Bucket) -> Costs:
    """A device that is known; a row of a bucket costs by its area."""
    step, costs = CURVES[curve] if isinstance(curve, str) else curve, Costs()
    for bucket in buckets or (BUCKET,):
        row = bucket.area * step(3) / 3
        points = {rows: bucket.area * step(rows) for rows in MEASURED}
        costs.measured(bucket, points, {"encode": 1.4 * row, "decode": 3.1 * row})
    return costs


def demand(id: int, steps: int = 5, rows: int = 3, due: float | None = None, bucket: Bucket = BUCKET) -> Demand:
    """A picture of equal steps; without a deadline, and due by its number."""
    return Demand(id, bucket, (rows,) * steps, float(id) if due is None else due)


def named(action: Action | None) -> tuple[str, tuple[int, ...]]:
    """An action, as tests write it."""
    if action is None:
        return "nothing", ()
    if isinstance(action, Step):
        return "step", tuple(each.demand.id for each in action.pictures)
    return "encode" if isinstance(action, Encode) else "decode", (action.picture.demand.id,)


def seconds_of(action: Action, costs: Costs) -> float:
    """What a device takes for it that does exactly what it was measured to."""
    kind = named(action)[0]
    if isinstance(action, Step):
        return costs.step(action.pictures[0].demand.bucket, action.rows)
    return costs.stage(action.picture.demand.bucket, "encode" if kind == "encode" else "decode")


@dataclass(frozen=True)
class Did:
    """One action that a driven device did."""

    start: float
    end: float
    kind: str
    ids: tuple[int, ...]
    bucket: Bucket


def drive(dispatcher: Dispatcher, now: float = 0.0, until: float = float("inf"), most: int = 100_000) -> list[Did]:
    """Do what a dispatcher says, until nothing is left, or the time has come. An action is never left half done."""
    done: list[Did] = []
    while now < until and len(done) < most:
        action = dispatcher.next(now)
        if action is None:
            return done
        seconds = seconds_of(action, dispatcher.costs)
        kind, ids = named(action)
        bucket = dispatcher.progress(ids[0]).demand.bucket
        dispatcher.ran(seconds)
        done.append(Did(now, now + seconds, kind, ids, bucket))
        now += seconds
    assert len(done) < most, "it never ends"
    return done


class Device:
    """One that is looked at while an action runs; `ends` are of pictures that it has made."""

    def __init__(self, dispatcher: Dispatcher, now: float = 0.0) -> None:
        self.dispatcher = dispatcher
        self.ends: dict[int, float] = {}
        self.now = now
        self._running: tuple[Action, float, float] | None = None

    def go_on(self, until: float = float("inf")) -> None:
        """Go on to that time, or until nothing is left; what runs then runs on."""
        while True:
            if self._running is None:
                action = self.dispatcher.next(self.now) if self.now < until else None
                if action is None:
                    break
                seconds = seconds_of(action, self.dispatcher.costs)
                self._running = action, seconds, self.now + seconds
            action, seconds, end = self._running
            if end > until:
                break
            self._running, self.now = None, end
            self.dispatcher.ran(seconds)
            kind, ids = named(action)
            if kind == "decode":
                self.ends[ids[0]] = end
        if until < float("inf"):
            self.now = max(self.now, until) if self._running is None else self.now


def ends_of(done: Iterable[Did]) -> dict[int, float]:
    """When each picture was decoded."""
    return {each.ids[0]: each.end for each in done if each.kind == "decode"}


def starts_of(done: Iterable[Did]) -> dict[int, float]:
    """When each picture was first encoded."""
    starts: dict[int, float] = {}
    for each in done:
        if each.kind == "encode":
            starts.setdefault(each.ids[0], each.start)
    return starts


def rows_of(seed: int, steps: int, window: bool = True) -> tuple[int, ...]:
    """Rows of a picture whose guidance is on for a part of its steps, as with a window of guidance."""
    drawn = random.Random(seed)
    inside, outside = drawn.choice(((3, 1), (2, 1), (3, 2), (1, 1)))
    first, last = sorted((drawn.randrange(steps + 1), drawn.randrange(steps + 1))) if window else (0, steps)
    return tuple(inside if first <= at < last else outside for at in range(steps))


def some_demands(seed: int, count: int, buckets: Sequence[Bucket] = (BUCKET,), first: int = 0) -> list[Demand]:
    """Pictures of any kind, without deadlines."""
    drawn = random.Random(seed)
    return [
        Demand(
            first + number,
            drawn.choice(buckets),
            rows_of(drawn.randrange(1 << 30), drawn.randrange(1, 13)),
            round(drawn.uniform(0, 3), 1),
        )
        for number in range(count)
    ]
