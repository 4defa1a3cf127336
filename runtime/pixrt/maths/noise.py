"""Noise per picture: seeded per picture, so it does not depend on the pictures beside it, or on the backend.

Pure maths. The order of draws is diffusers': first the initial latents, then one draw per network call.
"""

import numpy as np
from numpy.typing import NDArray


def draw_noise(seed: int, out: NDArray[np.float32], *, skip: int = 0) -> None:
    """Fill `out` `[draws, C, h, w]` with standard normal noise of a seed, after its first `skip` draws.

    Philox (Salmon et al. 2011) keyed by the seed only.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    if len(out):
        for _ in range(skip):
            generator.standard_normal(dtype=np.float32, out=out[0])
    for draw in out:
        generator.standard_normal(dtype=np.float32, out=draw)
