"""DDIM and DDPM: steps along the training timesteps themselves. Pure maths."""

import numpy as np

from pixrt.maths.schedule import space_timesteps
from pixrt.maths.solvers.settings import Settings
from pixrt.maths.solvers.table import Level, StepTable, denoised_of, make_table, noise_of


def ddim(settings: Settings) -> StepTable:
    """Song et al. 2021 (arXiv:2010.02502), equation 12; eta scales the noise of equation 16."""
    t = space_timesteps(settings.spacing, settings.train, settings.steps, settings.steps_offset)[settings.start :]
    a = settings.alphas_at(t)
    t_prev = t.astype(int) - settings.train // settings.steps
    a_prev = np.where(t_prev >= 0, settings.alphas_cumprod[t_prev.clip(0)], settings.final_alpha)
    sigma = settings.eta * np.sqrt((1 - a_prev) / (1 - a) * (1 - a / a_prev))
    level = Level(np.sqrt(a), np.sqrt(1 - a))
    denoised = denoised_of(settings.prediction_type, *level)
    eps = noise_of(settings.prediction_type, *level)
    direction = np.sqrt((1 - a_prev - sigma**2).clip(0))
    return make_table(t, level, denoised.times(np.sqrt(a_prev)).plus(eps.times(direction)), denoised, noise=sigma)


def ddpm(settings: Settings) -> StepTable:
    """Ho et al. 2020 (arXiv:2006.11239), equations 6 and 7, over the chosen timesteps; the last step adds no noise."""
    t = space_timesteps(settings.spacing, settings.train, settings.steps, settings.steps_offset)[settings.start :]
    a_bar = settings.alphas_at(t)
    a_bar_prev = np.append(a_bar[1:], 1.0)
    alpha = a_bar / a_bar_prev
    beta = 1 - alpha
    level = Level(np.sqrt(a_bar), np.sqrt(1 - a_bar))
    denoised = denoised_of(settings.prediction_type, *level)
    mean = denoised.times(np.sqrt(a_bar_prev) * beta / (1 - a_bar))
    mean = mean._replace(x=mean.x + np.sqrt(alpha) * (1 - a_bar_prev) / (1 - a_bar))
    variance = (1 - a_bar_prev) / (1 - a_bar) * beta
    return make_table(t, level, mean, denoised, noise=np.sqrt(variance))
