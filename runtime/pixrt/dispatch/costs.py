"""What a device takes for each kind of work, measured at first, corrected by every run. Times are seconds.

Must not import anything but the standard library.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from pixrt.dispatch.demand import Bucket, Demand

Stage = Literal["encode", "decode"]

# Of a row of the UNet at a call of three (Stable Diffusion 1.5), where nothing has been measured.
SHARES: Mapping[Stage, float] = {"encode": 1.4, "decode": 3.1}
_NEAR_BEST = 1.03  # a cap is the fewest rows that cost so little more, each, than those of the best call
_BEST = 1.005  # what differs less than that is noise
# How much of a surprise is put down to the whole device, which is hot, or shared; to calls of so many rows; to a stage.
_PACE_LEARNING, _ROWS_LEARNING, _STAGE_LEARNING = 0.05, 0.02, 0.15
_MOST_SURPRISE = 2.0  # a run that took so many times longer was not about its rows: the machine was busy
_MEASURED, _GUESSED = 20, 1  # runs that a measurement, and what lies between two, count for
_INSTANT = 1e-9  # the least that anything takes


class Curve:
    """Seconds of one call by its rows: straight lines between measured points, never falling."""

    def __init__(self, points: Mapping[int, float], trust: int = _MEASURED) -> None:
        self._points = {rows: max(points[rows], _INSTANT) for rows in sorted(points)}
        self._runs = dict.fromkeys(points, trust)
        self._lay()

    def _lay(self) -> None:
        """Make the table that is looked up: of 1 row and so on up to the last point. The last line goes on beyond."""
        points, most = [], 0.0
        for rows, seconds in self._points.items():
            most = max(most, seconds)
            points.append((rows, most))
        (first, low), *others = points
        slope = (others[0][1] - low) / (others[0][0] - first) if others else low / first
        table = [max(low - slope * (first - rows), low * rows / first) for rows in range(1, first + 1)]
        for (left, low), (right, high) in pairwise(points):
            slope = (high - low) / (right - left)
            table += [low + slope * more for more in range(1, right - left + 1)]
        self._table, self._slope = table, slope

    def __call__(self, rows: int) -> float:
        """Seconds of a call of so many rows."""
        beyond = rows - len(self._table)
        return self._table[rows - 1] if beyond <= 0 else self._table[-1] + self._slope * beyond

    def learn(self, rows: int, surprise: float) -> None:
        """A run took so many times what was expected. The first runs of so many rows teach the most."""
        if rows not in self._points:
            self._points = dict(sorted({**self._points, rows: self(rows)}.items()))
        runs = self._runs.get(rows, _GUESSED)
        self._runs[rows] = runs + 1
        self._points[rows] *= surprise ** max(_ROWS_LEARNING, 1 / (1 + runs))
        self._lay()

    def scaled(self, factor: float) -> "Curve":
        """The same curve of work that is so many times as large: a guess."""
        return Curve({rows: factor * seconds for rows, seconds in self._points.items()}, _GUESSED)

    @property
    def points(self) -> dict[int, float]:
        """Rows and seconds that it is made of."""
        return dict(self._points)


class Costs:
    """Seconds of a step by its rows, of encoding and of decoding, for every bucket.

    A bucket that nothing was measured for costs what the measured ones cost, by area. Without any measurement every
    call costs the same for each row, and the cap is all that an engine takes.
    """

    def __init__(self) -> None:
        self._pace = 1.0  # everything takes so many times as long as was measured
        self._curves: dict[object, tuple[float, Curve]] = {}
        self._stages: dict[tuple[object, Stage], tuple[float, float]] = {}
        self._caps: dict[object, tuple[int, int]] = {}

    def measured(self, bucket: Bucket, steps: Mapping[int, float], stages: Mapping[Stage, float]) -> None:
        """Begin with what a warm-up took: seconds by rows, and of the other stages."""
        self._curves[bucket.key] = bucket.area, Curve(steps)
        for stage, seconds in stages.items():
            self._stages[bucket.key, stage] = bucket.area, seconds
        self._caps.clear()

    @property
    def is_known(self) -> bool:
        """Whether anything was measured."""
        return bool(self._curves)

    def curve(self, bucket: Bucket) -> Curve:
        """The bucket's own, or the nearest one's, scaled; at the pace of the measurement."""
        if bucket.key not in self._curves:
            if not self._curves:
                return _PROPORTIONAL
            area, curve = min(self._curves.values(), key=lambda known: abs(known[0] - bucket.area))
            self._curves[bucket.key] = bucket.area, curve.scaled(bucket.area / area)
        return self._curves[bucket.key][1]

    def step(self, bucket: Bucket, rows: int) -> float:
        """Seconds of one call."""
        return self._pace * self.curve(bucket)(rows)

    def stage(self, bucket: Bucket, stage: Stage) -> float:
        """Seconds of encoding, or decoding, a picture."""
        return self._pace * self._stage(bucket, stage)

    def _stage(self, bucket: Bucket, stage: Stage) -> float:
        known = self._stages.get((bucket.key, stage))
        if known is not None:
            return known[1]
        others = [(area, seconds) for (_, name), (area, seconds) in self._stages.items() if name == stage]
        if others:
            area, seconds = min(others, key=lambda other: abs(other[0] - bucket.area))
            return seconds * bucket.area / area
        return SHARES[stage] * self.curve(bucket)(3) / 3

    def learn_step(self, bucket: Bucket, rows: int, seconds: float) -> None:
        """Correct a bucket's curve, and the pace, by a run. Without a measurement there is nothing to correct."""
        if self.is_known:
            surprise = _bounded(seconds / self.step(bucket, rows))
            self.curve(bucket).learn(rows, surprise)
            self._pace *= surprise**_PACE_LEARNING
            self._caps.pop(bucket.key, None)

    def learn_stage(self, bucket: Bucket, stage: Stage, seconds: float) -> None:
        """Correct what a stage takes."""
        if self.is_known:
            expected = self._stage(bucket, stage)
            surprise = _bounded(seconds / self._pace / max(expected, _INSTANT))
            learned = expected * (1 + _STAGE_LEARNING * (surprise - 1))
            self._stages[bucket.key, stage] = bucket.area, max(learned, _INSTANT)

    def caps(self, bucket: Bucket) -> tuple[int, int]:
        """Rows that a call should have at most: usually, and if more are waiting.

        The first is the fewest that cost, each, nearly as little as they can; the second the fewest that cost the
        least. What costs as much each, whatever their number, is better done soon than together.
        """
        if not self.is_known:
            return bucket.most_rows, bucket.most_rows
        if bucket.key not in self._caps:
            curve = self.curve(bucket)
            each = [curve(rows) / rows for rows in range(1, bucket.most_rows + 1)]
            best = min(each)
            usual, most = (
                next(rows for rows, cost in enumerate(each, 1) if cost <= factor * best)
                for factor in (_NEAR_BEST, _BEST)
            )
            self._caps[bucket.key] = usual, most
        return self._caps[bucket.key]

    def alone(self, bucket: Bucket, rows: tuple[int, ...]) -> float:
        """Seconds of a picture that has the device to itself."""
        steps = sum(self.step(bucket, count) for count in rows)
        return self.stage(bucket, "encode") + steps + self.stage(bucket, "decode")

    def alone_of(self, demand: Demand) -> float:
        """See `alone`."""
        return self.alone(demand.bucket, demand.rows)


def _bounded(surprise: float) -> float:
    return min(max(surprise, 1 / _MOST_SURPRISE), _MOST_SURPRISE)


_PROPORTIONAL = Curve({1: 1.0})
