"""Classifier-free guidance over two conditions, and which branches of the network a step has to run.

Pure maths. InstructPix2Pix, Brooks et al. 2023 (arXiv:2211.09800), equation 3, in the form of its published code:

    eps = eps_uncond + sT (eps_text - eps_image) + sI (eps_image - eps_uncond)
        = sT eps_text + (sI - sT) eps_image + (1 - sI) eps_uncond

A branch whose weight is zero does not run; that is exact. The formula is followed for every scale, also at or below 1.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Branch(IntEnum):
    """A condition under which the network runs; the value is the column in the weights and the order in a batch."""

    TEXT = 0  # instruction and source picture
    IMAGE = 1  # empty (or negative) text and source picture
    UNCOND = 2  # empty (or negative) text and no picture: zero latents


def guidance_weights(
    steps: int, guidance_scale: float, image_guidance_scale: float, interval: tuple[float, float]
) -> NDArray[np.float64]:
    """Weights `[steps, 3]` of the branches TEXT, IMAGE, UNCOND; every row sums to 1.

    `interval` is the window, in fractions of the steps, in which guidance acts. Outside it both scales are 1, so that
    only the text branch runs (Kynkäänniemi et al. 2024, arXiv:2404.07724).
    """
    inside = in_window(steps, interval)
    s_text = np.where(inside, guidance_scale, 1.0)
    s_image = np.where(inside, image_guidance_scale, 1.0)
    return np.stack([s_text, s_image - s_text, 1.0 - s_image], axis=1)


def in_window(steps: int, interval: tuple[float, float]) -> NDArray[np.bool_]:
    """Which of the steps `[steps]` are inside a window: step i is one if first <= i / steps < second."""
    position = np.arange(steps) / steps
    return (interval[0] <= position) & (position < interval[1])


def active_branches(weights: NDArray[np.float64]) -> tuple[Branch, ...]:
    """The branches one step (`weights` is `[B, 3]`) has to run: those whose weight is not zero for some picture."""
    return tuple(branch for branch in Branch if weights[:, branch].any())
