"""UniPC of second order with B2(h) and data prediction. Pure maths.

Zhao et al. 2023 (arXiv:2302.04867). Step i first corrects the state that step i - 1 predicted, with the new x0, then
predicts the next. Both use the same x, so the correction is a combination of only stored x0, and corrector and
predictor fold into one row.
"""

import numpy as np

from pixrt.maths.solvers.dpm_solver import solver_grid
from pixrt.maths.solvers.settings import Settings
from pixrt.maths.solvers.table import Level, StepTable, denoised_of, make_table


def unipc(settings: Settings) -> StepTable:
    """UniPC-2: predictor of equation 9, corrector of equation 10, h in lambda = log(alpha / sigma)."""
    t, alpha, sigma = solver_grid(settings)
    steps, level = len(t), Level(alpha[:-1], sigma[:-1])
    lambda_ = np.log(alpha) - np.log(sigma)  # infinite if the edit ends without noise
    h = np.diff(lambda_)
    grow = alpha[1:] * np.expm1(-h)  # alpha' (e^-h - 1): B(h) alpha'
    order = np.minimum(2, np.minimum(np.arange(steps) + 1, steps - np.arange(steps)))

    # Weights of x0 made 0, 1 and 2 steps ago in the next state, and in the correction of this one.
    predict, correct = np.zeros((steps, 3)), np.zeros((steps, 3))
    for i in range(steps):
        predict[i, 0] = -grow[i]
        if order[i] == 2:
            r = -h[i - 1] / h[i]
            predict[i, :2] += -grow[i] * 0.5 / r * np.array([-1, 1])
        if i:
            correct[i] = _corrector(grow[i - 1], h[i - 1], h[i - 2] if order[i - 1] == 2 else None)

    denoised = denoised_of(settings.prediction_type, *level)
    ratio = sigma[1:] / sigma[:-1]
    weights = predict + ratio[:, None] * correct
    update = denoised.times(weights[:, 0])
    update = update._replace(x=update.x + ratio)
    return make_table(t, level, update, denoised, history=weights[:, 1:], store=denoised)


def _corrector(grow: float, h: float, h_before: float | None) -> tuple[float, float, float]:
    """Corrected minus predicted state, as weights of the newest x0, the one before, and the one before that."""
    if h_before is None:
        return -grow * 0.5, grow * 0.5, 0.0
    r = -h_before / h
    phi_1 = np.expm1(-h)
    phi_2 = phi_1 / -h - 1
    b = np.array([phi_2, (phi_2 / -h - 0.5) * 2]) / phi_1
    rho_before, rho_new = np.linalg.solve(np.array([[1.0, 1.0], [r, 1.0]]), b)
    difference = (rho_before - 0.5) / r  # the predictor has used half of this slope already
    return -grow * rho_new, -grow * (-rho_new - difference), -grow * difference
