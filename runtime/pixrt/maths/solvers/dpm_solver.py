"""DPM-Solver++ of second order, multistep, and its SDE form. Pure maths.

Lu et al. 2022 (arXiv:2211.01095). The state is x = alpha x0 + sigma eps; lambda = log(alpha / sigma); each step stores
the predicted x0.
"""

import numpy as np

from pixrt.maths.schedule import Column, karras_sigmas, sigmas_of, space_timesteps_open, timesteps_of
from pixrt.maths.solvers.settings import Settings
from pixrt.maths.solvers.table import Level, StepTable, denoised_of, make_table


def dpmpp_2m(settings: Settings) -> StepTable:
    """Algorithm 2 (multistep second order, midpoint): x' = sigma'/sigma x - alpha' (e^-h - 1) D."""
    return _second_order(settings, stochastic=False)


def dpmpp_2m_sde(settings: Settings) -> StepTable:
    """The same for the reverse SDE (appendix D): x' = sigma'/sigma e^-h x + alpha' (1 - e^-2h) D + noise."""
    return _second_order(settings, stochastic=True)


def solver_grid(settings: Settings) -> tuple[Column, Column, Column]:
    """Timesteps `[N]`, and alpha and sigma `[N + 1]`, the last for the end of the edit; N without what is left out."""
    train_sigmas = sigmas_of(settings.alphas_cumprod)
    if settings.karras:
        ratio = karras_sigmas(train_sigmas[0], train_sigmas[-1], settings.steps)
        t = timesteps_of(ratio, train_sigmas)
        t = np.rint(t) if settings.karras_rounded else np.floor(t)
    else:
        t = space_timesteps_open(settings.spacing, settings.train, settings.steps, settings.steps_offset)
        ratio = np.interp(t, np.arange(settings.train), train_sigmas)
    ratio = np.append(ratio, settings.final_sigma)[settings.start :]
    alpha = 1 / np.sqrt(ratio**2 + 1)
    return t[settings.start :], alpha, ratio * alpha


def _second_order(settings: Settings, *, stochastic: bool) -> StepTable:
    t, alpha, sigma = solver_grid(settings)
    lambda_ = np.log(alpha) - np.log(sigma)  # infinite if the edit ends without noise
    h = np.diff(lambda_)
    denoised = denoised_of(settings.prediction_type, alpha[:-1], sigma[:-1])
    if stochastic:
        x = sigma[1:] / sigma[:-1] * np.exp(-h)
        weight = alpha[1:] * -np.expm1(-2 * h)  # of D, the extrapolated x0
        noise = sigma[1:] * np.sqrt(-np.expm1(-2 * h))
    else:
        x = sigma[1:] / sigma[:-1]
        weight = alpha[1:] * -np.expm1(-h)
        noise = np.zeros_like(x)
    # D = x0 + (x0 - previous x0) / (2 r), r = previous h / h; first order if there is no previous, and at the end.
    slope = np.zeros(len(t))
    slope[1:] = h[1:] / (2 * h[:-1])
    if settings.final_sigma == 0 or settings.steps < 15:
        slope[-1] = 0
    update = denoised.times(weight * (1 + slope))
    return make_table(
        t,
        Level(alpha[:-1], sigma[:-1]),
        update._replace(x=update.x + x),
        denoised,
        noise=noise,
        history=(-weight * slope)[:, None],
        store=denoised,
    )
