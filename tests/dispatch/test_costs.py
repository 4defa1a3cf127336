"""What a device is expected to take: between measurements, after corrections, and for buckets that nobody measured."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.dispatch.costs import Costs, Curve
from pixrt.dispatch.demand import Bucket
from queues import BUCKET, CURVES, MEASURED, costs_of

POINTS = st.dictionaries(st.integers(1, 30), st.floats(1e-4, 10.0), min_size=1, max_size=8)


@given(POINTS)
def test_a_curve_goes_through_its_points_and_never_falls(points: dict[int, float]) -> None:
    curve = Curve(points)
    for rows, seconds in points.items():
        highest = max(known for count, known in points.items() if count <= rows)
        assert curve(rows) == pytest.approx(highest)
        assert highest >= seconds
    told = [curve(rows) for rows in range(1, 40)]
    assert all(first <= second * (1 + 1e-12) for first, second in itertools.pairwise(told))
    assert told[0] > 0


@given(POINTS)
def test_between_two_points_it_is_a_straight_line(points: dict[int, float]) -> None:
    curve, measured = Curve(points), sorted(points)
    for left, right in itertools.pairwise(measured):
        for rows in range(left, right):
            share = (rows - left) / (right - left)
            assert curve(rows) == pytest.approx((1 - share) * curve(left) + share * curve(right))


@pytest.mark.parametrize("name", CURVES)
def test_published_curves_are_told_from_a_few_points(name: str) -> None:
    curve = Curve({rows: CURVES[name](rows) for rows in MEASURED})
    for rows in range(1, 31):
        assert curve(rows) == pytest.approx(CURVES[name](rows))


def test_one_point_costs_in_proportion() -> None:
    curve = Curve({3: 0.3})
    assert [curve(rows) for rows in (1, 3, 9)] == pytest.approx([0.1, 0.3, 0.9])


def test_fewer_rows_than_were_measured_are_on_the_first_line() -> None:
    curve = Curve({3: 0.5, 6: 0.8})
    assert curve(1) == pytest.approx(0.3)
    assert Curve({3: 0.3, 6: 3.0})(1) == pytest.approx(0.1), "never less than their share"


# The fewest rows within 3 % of the cheapest, then within 0.5 %: from 7.5 / r + 9.1 <= 1.03 (7.5 / 24 + 9.1) and so on.
@pytest.mark.parametrize(("name", "caps"), [("a100", (13, 21)), ("4090", (20, 24)), ("proportional", (3, 3))])
def test_caps(name: str, caps: tuple[int, int]) -> None:
    assert costs_of(name).caps(BUCKET) == caps
    each = {rows: CURVES[name](rows) / rows for rows in range(1, 25)}
    for cap, factor in zip(caps, (1.03, 1.005), strict=True):
        assert cap == min(rows for rows, cost in each.items() if cost <= factor * min(each.values()))


def test_a_call_takes_no_more_rows_than_its_bucket() -> None:
    narrow = Bucket("narrow", slots=8, most_rows=6)
    assert costs_of("4090", narrow).caps(narrow) == (6, 6)


def test_what_nobody_measured_is_proportional_and_takes_all() -> None:
    costs = Costs()
    assert not costs.is_known
    assert costs.caps(BUCKET) == (24, 24)
    assert costs.step(BUCKET, 6) == 2 * costs.step(BUCKET, 3)
    costs.learn_step(BUCKET, 3, 100.0)
    costs.learn_stage(BUCKET, "encode", 100.0)
    assert costs.step(BUCKET, 3) == 3
    assert costs.stage(BUCKET, "encode") == pytest.approx(1.4)


def test_another_bucket_costs_by_its_area_what_the_nearest_does() -> None:
    small, large = Bucket("small", 8, 24, area=1.0), Bucket("large", 8, 24, area=4.0)
    costs = Costs()
    costs.measured(small, {1: 0.1, 3: 0.2}, {"encode": 0.3, "decode": 0.6})
    costs.measured(large, {1: 1.0, 3: 2.5}, {"encode": 3.0})
    middle = Bucket("middle", 8, 24, area=3.0)
    assert costs.step(middle, 3) == pytest.approx(2.5 * 3 / 4)
    assert costs.stage(middle, "encode") == pytest.approx(3.0 * 3 / 4)
    assert costs.stage(middle, "decode") == pytest.approx(0.6 * 3)
    for _ in range(50):
        costs.learn_step(middle, 3, 4.0)
    assert costs.step(large, 3) / costs.step(small, 3) == pytest.approx(12.5), "and learns by itself"


def test_a_stage_that_was_not_measured_costs_what_its_rows_would() -> None:
    costs = Costs()
    costs.measured(BUCKET, {3: 0.3}, {})
    assert costs.stage(BUCKET, "encode") == pytest.approx(0.14)
    assert costs.stage(BUCKET, "decode") == pytest.approx(0.31)


def test_alone_is_the_sum_of_what_a_picture_asks_for() -> None:
    costs, curve = costs_of("a100"), CURVES["a100"]
    rows = (1, 3, 3, 2)
    steps = curve(1) + 2 * curve(3) + curve(2)
    assert costs.alone(BUCKET, rows) == pytest.approx(steps + 4.5 * curve(3) / 3)


@pytest.mark.parametrize("truth", ["4090", "proportional"])
def test_learning_ends_at_what_the_device_takes(truth: str) -> None:
    costs, curve, drawn = costs_of("a100"), CURVES[truth], random.Random(1)
    for _ in range(8000):
        rows = drawn.randrange(1, 25)
        costs.learn_step(BUCKET, rows, curve(rows))
    for rows in range(1, 25):
        assert costs.step(BUCKET, rows) == pytest.approx(curve(rows), rel=0.01)
    usual, _ = costs.caps(BUCKET)
    assert abs(usual - costs_of(truth).caps(BUCKET)[0]) <= 1


def test_a_slower_device_is_slower_for_calls_that_it_has_not_run() -> None:
    costs = costs_of("a100")
    for _ in range(200):
        costs.learn_step(BUCKET, 3, 2 * CURVES["a100"](3))
    assert costs.step(BUCKET, 3) == pytest.approx(2 * CURVES["a100"](3), rel=0.001)
    assert costs.step(BUCKET, 12) > 1.3 * CURVES["a100"](12)
    assert costs.stage(BUCKET, "decode") > 1.3 * 3.1 * CURVES["a100"](3) / 3


def test_noise_moves_what_is_expected_little() -> None:
    costs, curve, drawn = costs_of("a100"), CURVES["a100"], random.Random(2)
    worst = 0.0
    for _ in range(3000):
        rows = drawn.choice((3, 6, 9, 12))
        costs.learn_step(BUCKET, rows, curve(rows) * drawn.lognormvariate(0, 0.1))
        worst = max(worst, abs(costs.step(BUCKET, 12) / curve(12) - 1))
    assert worst < 0.1


@given(st.floats(1e-6, 1e6), st.integers(1, 24))
def test_one_surprise_is_bounded(factor: float, rows: int) -> None:
    costs = costs_of("a100")
    before = costs.step(BUCKET, rows), costs.stage(BUCKET, "encode")
    costs.learn_step(BUCKET, rows, factor * before[0])
    costs.learn_stage(BUCKET, "encode", factor * before[1])
    assert 0.68 <= costs.step(BUCKET, rows) / before[0] <= 1.5
    assert 0.7 <= costs.stage(BUCKET, "encode") / before[1] <= 1.6


def test_a_stage_is_learned_as_the_mean_of_its_runs() -> None:
    """Half of the texts are in the cache."""
    costs = costs_of("a100")
    seconds = costs.stage(BUCKET, "encode")
    told = []
    for run in range(400):
        costs.learn_stage(BUCKET, "encode", seconds * (0.5 if run % 2 else 1.5))
        told.append(costs.stage(BUCKET, "encode"))
    assert sum(told[-100:]) / 100 == pytest.approx(seconds, rel=0.02)


def test_times_that_a_clock_cannot_tell_break_nothing() -> None:
    costs = Costs()
    costs.measured(BUCKET, {3: 0.0, 6: 0.0}, {"encode": 0.0, "decode": 0.0})
    costs.learn_step(BUCKET, 3, 0.0)
    costs.learn_stage(BUCKET, "encode", 0.0)
    assert costs.step(BUCKET, 3) > 0
    assert costs.caps(BUCKET)[0] >= 1
