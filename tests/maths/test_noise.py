"""Noise belongs to a picture's seed alone."""

import numpy as np

from pixrt.maths.noise import draw_noise

SHAPE = (4, 8, 6)


def test_noise_does_not_depend_on_the_batch() -> None:
    batch = draw_noise([3, 7, 3], 5, SHAPE)
    assert batch.shape == (6, 3, *SHAPE)
    np.testing.assert_array_equal(batch[:, 1], draw_noise([7], 5, SHAPE)[:, 0])
    np.testing.assert_array_equal(batch[:, 0], batch[:, 2])


def test_more_steps_leave_the_first_draws_as_they_are() -> None:
    np.testing.assert_array_equal(draw_noise([1], 3, SHAPE), draw_noise([1], 9, SHAPE)[:4])
    np.testing.assert_array_equal(draw_noise([1], 0, SHAPE), draw_noise([1], 9, SHAPE)[:1])


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    noise = draw_noise([0, 1, 2**63 - 1], 50, (4, 32, 32)).astype(np.float64)
    flat = noise.reshape(51, 3, -1)
    assert abs(flat.mean()) < 0.01
    assert abs(flat.std() - 1) < 0.01
    assert abs(np.corrcoef(flat[0, 0], flat[0, 1])[0, 1]) < 0.06
    assert abs(np.corrcoef(flat[0, 0], flat[1, 0])[0, 1]) < 0.06
