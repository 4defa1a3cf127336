"""Latent consistency sampling. Pure maths."""

import numpy as np

from pixrt.errors import OptionError
from pixrt.maths.solvers.settings import Settings
from pixrt.maths.solvers.table import Level, StepTable, denoised_of, make_table

SIGMA_DATA = 0.5


def lcm(settings: Settings) -> StepTable:
    """Luo et al. 2023 (arXiv:2310.04378), algorithm 3: each call jumps to x0, then noise leads to the next timestep.

    Raises OptionError for more steps than the schedule the model was distilled on (50).
    """
    if settings.steps > settings.original_steps:
        raise OptionError(
            f"steps is {settings.steps}, and LCM was distilled on {settings.original_steps} steps",
            remedy=f"Use at most {settings.original_steps} steps (4 to 8 are usual), or another scheduler",
            option="steps",
        )
    trained = np.arange(settings.original_steps, 0, -1) * (settings.train // settings.original_steps) - 1
    t = trained[np.linspace(0, len(trained), settings.steps, endpoint=False).astype(int)][settings.start :]
    a = settings.alphas_cumprod[t]
    a_next = np.append(a[1:], 1.0)  # the last call ends at its prediction
    # Boundary condition, equation 9: at t = 0 the prediction is x itself.
    scaled = t * settings.timestep_scaling
    c_skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    c_out = scaled / np.sqrt(scaled**2 + SIGMA_DATA**2)
    level = Level(np.sqrt(a), np.sqrt(1 - a))
    predicted = denoised_of(settings.prediction_type, *level)
    denoised = predicted.times(c_out)
    denoised = denoised._replace(x=denoised.x + c_skip)
    update = denoised.times(np.sqrt(a_next))
    return make_table(t.astype(np.float64), level, update, predicted, noise=np.sqrt(1 - a_next))
