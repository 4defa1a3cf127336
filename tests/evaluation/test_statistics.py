"""The interval of a difference between two shares of the same cases, against figures worked out by hand."""

import pytest

from pixrt_export.evaluation.statistics import Loss


@pytest.mark.parametrize(
    ("lost", "won", "count", "middle", "reach"),
    [
        (0, 0, 98, 0.0, 2.772),  # one of 100 each way: 1.96 sqrt(0.02 / 100)
        (3, 1, 98, 2.0, 4.785),  # four and two of 100: 1.96 sqrt((0.06 - 0.02^2) / 100)
    ],
)
def test_a_loss_and_its_interval(lost: int, won: int, count: int, middle: float, reach: float) -> None:
    there = [True] * lost + [False] * won + [True] * (count - lost - won)
    here = [False] * lost + [True] * won + [True] * (count - lost - won)
    found = Loss.of([*there, True], here)  # what one of them has more is left out
    assert (found.lost, found.won, found.count) == (lost, won, count)
    assert found.value == pytest.approx(100 * (lost - won) / count)
    assert found.interval == pytest.approx((middle - reach, middle + reach), abs=0.001)
