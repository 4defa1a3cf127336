"""Noise belongs to a picture's seed only."""

import numpy as np
from numpy.typing import NDArray

from pixrt.maths.noise import draw_noise

SHAPE = (4, 8, 6)


def drawn(seed: int, count: int, skip: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    out = np.full((count, *shape), np.nan, np.float32)
    draw_noise(seed, out, skip=skip)
    return out


def test_more_draws_leave_the_first_ones_as_they_are() -> None:
    np.testing.assert_array_equal(drawn(1, 4), drawn(1, 10)[:4])
    assert not np.array_equal(drawn(1, 1), drawn(2, 1))


def test_draws_after_others_are_those_after_others() -> None:
    """In diffusers' order: the initial draw, then those of the steps."""
    np.testing.assert_array_equal(drawn(5, 6, skip=1), drawn(5, 7)[1:])
    assert drawn(5, 0, skip=1).shape == (0, *SHAPE)


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    noise = np.stack([drawn(seed, 51, shape=(4, 32, 32)) for seed in (0, 1, 2**63 - 1)], 1).astype(np.float64)
    flat = noise.reshape(51, 3, -1)
    assert abs(flat.mean()) < 0.01
    assert abs(flat.std() - 1) < 0.01
    assert abs(np.corrcoef(flat[0, 0], flat[0, 1])[0, 1]) < 0.06
    assert abs(np.corrcoef(flat[0, 0], flat[1, 0])[0, 1]) < 0.06
