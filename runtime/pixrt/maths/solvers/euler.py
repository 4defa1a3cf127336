"""Euler's method on the probability flow, and its ancestral form. Pure maths.

The state is x = x0 + sigma eps, as in Karras et al. 2022 (arXiv:2206.00364); the network sees x / sqrt(sigma^2 + 1).
"""

import numpy as np

from pixrt.maths.schedule import Column, karras_sigmas, sigmas_of, space_timesteps, timesteps_of
from pixrt.maths.solvers.settings import Settings
from pixrt.maths.solvers.table import Level, Linear, StepTable, denoised_of, make_table


def euler(settings: Settings) -> StepTable:
    """Karras et al. 2022, algorithm 1 without the second-order correction: x' = x + (sigma' - sigma) dx/dsigma."""
    t, sigma = _timesteps_and_sigmas(settings)
    if settings.karras:
        sigma = karras_sigmas(sigma[-1], sigma[0], settings.steps)
        t = timesteps_of(sigma, sigmas_of(settings.alphas_cumprod))
    sigma_to = np.append(sigma[1:], settings.final_sigma)
    return _table(settings, t, sigma, sigma_to, np.zeros_like(sigma))


def euler_ancestral(settings: Settings) -> StepTable:
    """Euler to sigma_down, then noise up to sigma_to: the variances of Ho et al. 2020, as in k-diffusion."""
    t, sigma = _timesteps_and_sigmas(settings)
    sigma_to = np.append(sigma[1:], 0.0)
    sigma_up = np.sqrt(sigma_to**2 * (sigma**2 - sigma_to**2) / sigma**2)
    sigma_down = sigma_to**2 / sigma  # sqrt(sigma_to^2 - sigma_up^2) without its cancellation
    return _table(settings, t, sigma, sigma_down, sigma_up)


def _timesteps_and_sigmas(settings: Settings) -> tuple[Column, Column]:
    t = space_timesteps(settings.spacing, settings.train, settings.steps, settings.steps_offset, fractional=True)
    return t, np.interp(t, np.arange(settings.train), sigmas_of(settings.alphas_cumprod))


def _table(settings: Settings, t: Column, sigma: Column, sigma_to: Column, sigma_up: Column) -> StepTable:
    start, largest = settings.start, float(sigma.max())
    t, sigma, sigma_to, sigma_up = t[start:], sigma[start:], sigma_to[start:], sigma_up[start:]
    scale = 1 / np.sqrt(sigma**2 + 1)
    # In the network's scaling alpha = scale and the noise is sigma * scale; its x is scale * x.
    inner = denoised_of(settings.prediction_type, scale, sigma * scale)
    denoised = Linear(inner.x * scale, inner.output)
    ratio = sigma_to / sigma
    update = denoised.times(1 - ratio)
    update = update._replace(x=update.x + ratio)
    return make_table(
        t,
        Level(np.ones_like(sigma), sigma),
        update,
        denoised,
        noise=sigma_up,
        input_scale=scale,
        initial_scale=(largest**2 + 1) ** 0.5 if settings.spacing == "leading" else largest,
    )
