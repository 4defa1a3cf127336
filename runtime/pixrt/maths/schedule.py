"""Noise schedules: betas, timesteps and sigmas as pure functions in float64. Imports only numpy.

Letters: T training timesteps, N steps, alphas_cumprod the product of (1 - beta), sigma = sqrt((1 - a) / a).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
Spacing = Literal["linspace", "leading", "trailing"]

# What a zero terminal signal-to-noise ratio becomes if sigma must stay finite: the smallest FP16 number.
SMALLEST_ALPHA = 2.0**-24


def make_betas(kind: BetaSchedule, start: float, end: float, count: int) -> Column:
    """Betas `[T]`. "scaled_linear" is linear in the square root (latent diffusion, Rombach et al. 2022)."""
    if kind == "linear":
        return np.linspace(start, end, count)
    if kind == "scaled_linear":
        betas: Column = np.linspace(start**0.5, end**0.5, count) ** 2
        return betas
    # Nichol & Dhariwal 2021, equation 17, betas capped.
    bar = np.square(np.cos(np.linspace(0.008 / 1.008, 1.0, count + 1) * (np.pi / 2)))
    return (1 - bar[1:] / bar[:-1]).clip(max=0.999)


def rescale_zero_snr(betas: Column) -> Column:
    """Shift and scale so that the last alphas_cumprod is zero (Lin et al. 2024, algorithm 1)."""
    root: Column = np.sqrt(make_alphas_cumprod(betas))
    bar: Column = np.square((root - root[-1]) * (root[0] / (root[0] - root[-1])))
    alphas = bar.copy()
    alphas[1:] /= bar[:-1]
    return 1 - alphas


def make_alphas_cumprod(betas: Sequence[float] | Column) -> Column:
    """`[T]`: how much of the clean picture's variance is left at each training timestep."""
    return np.cumprod(1 - np.asarray(betas, np.float64), dtype=np.float64)


def sigmas_of(alphas_cumprod: Column) -> Column:
    """Noise-to-signal ratio."""
    sigmas: Column = np.sqrt((1 - alphas_cumprod) / alphas_cumprod)
    return sigmas


def space_timesteps(spacing: Spacing, train: int, steps: int, offset: int, *, fractional: bool = False) -> Column:
    """Timesteps `[N]`, falling (Lin et al. 2024, table 2). With `fractional` "linspace" is not rounded."""
    if spacing == "linspace":
        even = np.linspace(0, train - 1, steps)[::-1]
        return even.copy() if fractional else np.rint(even)
    if spacing == "leading":
        return np.arange(steps, dtype=np.float64)[::-1] * (train // steps) + offset
    trailing: Column = np.rint(np.arange(train, 0, -train / steps)[:steps]) - 1
    return trailing


def space_timesteps_open(spacing: Spacing, train: int, steps: int, offset: int) -> Column:
    """Timesteps `[N]` of the multistep solvers: N + 1 points, the last of which is the clean picture, left out."""
    if spacing == "linspace":
        return np.rint(np.linspace(0, train - 1, steps + 1))[:0:-1].copy()
    if spacing == "leading":
        return np.arange(steps + 1, dtype=np.float64)[:0:-1] * (train // (steps + 1)) + offset
    return space_timesteps("trailing", train, steps, offset)


def karras_sigmas(low: float, high: float, steps: int, rho: float = 7.0) -> Column:
    """Sigmas `[N]` from high to low (Karras et al. 2022, equation 5)."""
    ramp = np.linspace(0, 1, steps)
    sigmas: Column = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return sigmas


def timesteps_of(sigmas: Column, train_sigmas: Column) -> Column:
    """The fractional timesteps of given sigmas, by interpolation in log sigma; outside the schedule its ends."""
    return np.interp(np.log(np.maximum(sigmas, 1e-10)), np.log(train_sigmas), np.arange(len(train_sigmas)))
