"""Slopes of times that are known, and what is called a surprise."""

import pytest

from slopes import Axis, scaled


def fitted(ms: list[float], work: list[float], *, is_line: bool) -> Axis:
    axis = Axis("axis", work, work, is_line, [[each] for each in ms])
    axis.fit(0.2)
    return axis


def test_a_line() -> None:
    axis = fitted([13, 16, 22, 310], [1, 2, 4, 100], is_line=True)
    assert (axis.slope, axis.start_ms) == (pytest.approx(3), pytest.approx(10))
    assert axis.surprises == []


def test_a_point_above_its_line_is_a_surprise() -> None:
    (surprise,) = fitted([13, 16, 22, 40, 60, 310], [1, 2, 4, 5, 20, 100], is_line=True).surprises
    assert surprise.startswith("5: 40.0 ms")


@pytest.mark.parametrize(("power", "is_surprise"), [(1.0, False), (0.9, False), (1.3, True)])
def test_a_power(power: float, is_surprise: bool) -> None:
    work = [1.0, 10.0, 100.0]
    axis = fitted([2 * each**power for each in work], work, is_line=False)
    assert axis.slope == pytest.approx(power)
    assert bool(axis.surprises) == is_surprise


def test_fewer_counts() -> None:
    assert scaled((1, 10, 1000), 0.01) == [1, 10]
