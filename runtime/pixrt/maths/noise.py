"""Noise per picture: seeded per picture, so it does not depend on the batch, the position in it or the backend.

Pure maths. The order of draws is diffusers': first the initial latents, then one draw per network call.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw_noise(
    seeds: Sequence[int], calls: int, shape: tuple[int, int, int], *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Standard normal noise `[1 + calls, B, *shape]` for B seeds: the initial latents, then one draw per call.

    `calls` may be 0 where the solver adds no noise; `out` is filled where it is given. Philox (Salmon et al. 2011)
    keyed by the seed alone.
    """
    noise = np.empty((1 + calls, len(seeds), *shape), np.float32) if out is None else out
    for index, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(seed))
        for draw in noise[:, index]:
            generator.standard_normal(dtype=np.float32, out=draw)
    return noise
