"""The coefficient table: all a solver has to say about an edit, decided before the loop. Pure data; imports only numpy.

Every solver here is linear in the state x, the network's output, its stored predictions and fresh noise z, so step i is

    output = network(input_scale[i] * x, timesteps[i])
    stored = store_x[i] * x + store_output[i] * output
    x'     = x[i] * x + output[i] * output + sum_k history[i, k] * stored_{k+1 steps ago} + noise[i] * z

and the predicted clean latents, for previews, are denoised_x[i] * x + denoised_output[i] * output. Before step i the
state is alpha[i] x0 + sigma[i] eps for clean latents x0 and standard normal noise eps: what an edit begins with that
does not begin with noise only, and what latents that are known become.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from pixrt.maths.schedule import Column


@dataclass(frozen=True, slots=True)
class StepTable:
    """One row per network call, float64 `[N]` unless said otherwise.

    Attributes:
        timesteps: what the network is told, fractional if the spacing is.
        alpha, sigma: how much of the clean latents, and of noise, is in x before the step.
        input_scale: the network's input is this times x.
        x, output, noise: coefficients of x, of the (guided) network output and of the fresh noise.
        history: `[N, K]` coefficients of the predictions stored 1..K steps ago, newest first; K may be 0.
        store_x, store_output: what this step stores (unused if K is 0).
        denoised_x, denoised_output: the predicted clean latents.
        initial_scale: the first x is this times the initial noise.
    """

    timesteps: Column
    alpha: Column
    sigma: Column
    input_scale: Column
    x: Column
    output: Column
    noise: Column
    history: Column
    store_x: Column
    store_output: Column
    denoised_x: Column
    denoised_output: Column
    initial_scale: float

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def depth(self) -> int:
        """How many stored predictions a step may look back on."""
        return int(self.history.shape[1])

    def level_after(self, step: int) -> tuple[float, float]:
        """Alpha and sigma of the state after a step; after the last it is clean."""
        return (self.alpha[step + 1], self.sigma[step + 1]) if step + 1 < len(self) else (1.0, 0.0)

    def is_finite(self) -> bool:
        """Whether every coefficient is a number."""
        return all(np.isfinite(getattr(self, field.name)).all() for field in fields(self))


class Level(NamedTuple):
    """`alpha * clean latents + sigma * noise`, a column each: how noisy the states before the steps are."""

    alpha: Column
    sigma: Column


class Linear(NamedTuple):
    """`x * state + output * network output`, a column each."""

    x: Column
    output: Column

    def times(self, factor: Column) -> "Linear":
        """Both coefficients multiplied."""
        return Linear(factor * self.x, factor * self.output)

    def plus(self, other: "Linear") -> "Linear":
        """The sum of two combinations."""
        return Linear(self.x + other.x, self.output + other.output)


def denoised_of(prediction_type: str, alpha: Column, sigma: Column) -> Linear:
    """The predicted clean latents x0 if the state is alpha x0 + sigma eps.

    v-prediction: v = alpha eps - sigma x0 (Salimans & Ho 2022, appendix D), for alpha^2 + sigma^2 = 1.
    """
    if prediction_type == "v_prediction":
        return Linear(alpha, -sigma)
    return Linear(1 / alpha, -sigma / alpha)


def noise_of(prediction_type: str, alpha: Column, sigma: Column) -> Linear:
    """The predicted noise eps, likewise."""
    if prediction_type == "v_prediction":
        return Linear(sigma, alpha)
    return Linear(np.zeros_like(alpha), np.ones_like(alpha))


def make_table(
    timesteps: Column,
    level: Level,
    update: Linear,
    denoised: Linear,
    *,
    noise: Column | None = None,
    history: Column | None = None,
    store: Linear | None = None,
    input_scale: Column | None = None,
    initial_scale: float = 1.0,
) -> StepTable:
    """A table in which what is not given does not happen: no noise, no history, inputs as they are."""
    zeros, ones = np.zeros(len(timesteps)), np.ones(len(timesteps))
    stored = store or Linear(zeros, zeros)
    return StepTable(
        timesteps=timesteps,
        alpha=level.alpha,
        sigma=level.sigma,
        input_scale=ones if input_scale is None else input_scale,
        x=update.x,
        output=update.output,
        noise=zeros if noise is None else noise,
        history=np.zeros((len(timesteps), 0)) if history is None else history,
        store_x=stored.x,
        store_output=stored.output,
        denoised_x=denoised.x,
        denoised_output=denoised.output,
        initial_scale=initial_scale,
    )
