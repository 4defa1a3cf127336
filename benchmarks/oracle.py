"""What the comparisons with diffusers share: which of its schedulers is which of ours, noise, and states by step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.maths.noise import draw_noise

# Each of our names, the class that diffusers has for it, and the settings that make it that solver.
DIFFUSERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lcm": ("LCMScheduler", {}),
}


def noise_of(seeds: Sequence[int], draws: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """The noise of pictures, `[draws, B, *shape]`: the initial latents, then one draw per step."""
    noise = np.empty((draws, len(seeds), *shape), np.float32)
    for item, seed in enumerate(seeds):
        own = np.empty((draws, *shape), np.float32)
        draw_noise(seed, own)
        noise[:, item] = own
    return noise


def by_step(latents: Sequence[NDArray[np.float32]], batch: int) -> list[NDArray[np.float32]]:
    """States of pictures that advanced together, told of in turn, as `[B, C, h, w]` for every step."""
    return [np.stack(latents[start : start + batch]) for start in range(0, len(latents), batch)]
