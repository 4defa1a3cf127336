"""Guidance is the published formula, and a branch with a zero weight does not run."""

import numpy as np
import pytest

from pixrt.maths.guidance import Branch, active_branches, guidance_weights

ALL = (0.0, 1.0)


@pytest.mark.parametrize(
    ("s_text", "s_image"), [(7.5, 1.5), (1.0, 1.0), (3.0, 3.0), (0.5, 0.3), (0.0, 2.0), (7.5, 1.0)]
)
def test_weights_are_the_published_formula(s_text: float, s_image: float) -> None:
    eps_text, eps_image, eps_uncond = np.random.default_rng(0).standard_normal((3, 50))
    expected = eps_uncond + s_text * (eps_text - eps_image) + s_image * (eps_image - eps_uncond)
    weights = guidance_weights(1, s_text, s_image, ALL)[0]
    np.testing.assert_allclose(weights @ np.stack([eps_text, eps_image, eps_uncond]), expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("s_text", "s_image", "branches"),
    [
        (7.5, 1.5, (Branch.TEXT, Branch.IMAGE, Branch.UNCOND)),
        (7.5, 1.0, (Branch.TEXT, Branch.IMAGE)),
        (3.0, 3.0, (Branch.TEXT, Branch.UNCOND)),
        (1.0, 1.0, (Branch.TEXT,)),
        (0.0, 1.0, (Branch.IMAGE,)),
        (0.0, 0.0, (Branch.UNCOND,)),
        (0.0, 2.0, (Branch.IMAGE, Branch.UNCOND)),
    ],
)
def test_only_branches_with_a_weight_run(s_text: float, s_image: float, branches: tuple[Branch, ...]) -> None:
    assert active_branches(guidance_weights(1, s_text, s_image, ALL)) == branches


def test_the_window_is_in_fractions_of_the_steps() -> None:
    weights = guidance_weights(10, 7.5, 1.5, (0.2, 0.8))
    inside = [len(active_branches(row[None])) == 3 for row in weights]
    assert inside == [False, False, True, True, True, True, True, True, False, False]
    np.testing.assert_array_equal(weights[0], [1, 0, 0])


def test_an_empty_window_never_guides() -> None:
    assert all(active_branches(row[None]) == (Branch.TEXT,) for row in guidance_weights(5, 7.5, 1.5, (0.5, 0.5)))
