"""PNDM in its linear multistep form (PLMS), fourth order. Pure maths."""

import numpy as np

from pixrt.maths.schedule import space_timesteps
from pixrt.maths.solvers.settings import Settings
from pixrt.maths.solvers.table import Level, Linear, StepTable, denoised_of, make_table, noise_of

# Adams-Bashforth weights of the newest output and those before (Liu et al. 2022, arXiv:2202.09778, equation 12).
_ADAMS = (
    np.array([1.0]),
    np.array([3.0, -1.0]) / 2,
    np.array([23.0, -16.0, 5.0]) / 12,
    np.array([55.0, -59.0, 37.0, -9.0]) / 24,
)


def pndm(settings: Settings) -> StepTable:
    """N + 1 network calls: the first step is taken twice (Heun's method), so that the history starts well.

    Also if the first steps are left out. (diffusers' img2img then takes the third call's state for the one before.)
    """
    t = space_timesteps(settings.spacing, settings.train, settings.steps, settings.steps_offset)[settings.start :]
    steps, stride = len(t), settings.train // settings.steps
    asked = np.insert(t, 1, t[1:2] if steps > 1 else t)
    if steps == 1:
        asked = t
    calls = len(asked)
    t_from, t_to = asked.astype(int), asked.astype(int) - stride
    if calls > 1:  # the second call improves the first step: from where that started, to where it led
        t_from[1], t_to[1] = asked[1] + stride, asked[1]
    a = settings.alphas_cumprod[t_from.clip(0, settings.train - 1)]
    a_to = np.where(t_to >= 0, settings.alphas_cumprod[t_to.clip(0)], settings.final_alpha)
    # Equation 11, x' = keep x - move eps.
    keep = np.sqrt(a_to / a)
    move = (a_to - a) / (a * np.sqrt(1 - a_to) + np.sqrt(a * (1 - a) * a_to))
    eps = noise_of(settings.prediction_type, np.sqrt(a), np.sqrt(1 - a))
    x = keep - move * eps.x
    output = -move * eps.output  # of the averaged output

    history = np.zeros((calls, 4))
    newest = np.zeros(calls)
    for call in range(calls):
        # The second call is not part of the history; the first is, seen from the third as 2 calls ago.
        past = [1 + k if call - 1 - k > 1 else 2 + k for k in range(min(call - 1, 3))] if call > 1 else []
        weights = _ADAMS[len(past)]
        newest[call] = output[call] * weights[0]
        for ago, weight in zip(past, weights[1:], strict=True):
            history[call, ago - 1] = output[call] * weight
    if calls > 1:
        # The second call goes on from the first state, not from the one before it: x_0 = (x_1 - c e_0) / k.
        k, c = x[0], newest[0]
        newest[1] = output[1] / 2
        history[1, 0] = output[1] / 2 - x[1] * c / k
        x = x.copy()
        x[1] = x[1] / k
    asked_alpha = settings.alphas_at(asked)
    level = Level(np.sqrt(asked_alpha), np.sqrt(1 - asked_alpha))
    return make_table(
        asked,
        level,
        Linear(x, newest),
        denoised_of(settings.prediction_type, *level),
        history=history,
        store=Linear(np.zeros(calls), np.ones(calls)),
    )
