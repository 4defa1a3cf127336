"""The coefficient table: all a solver has to say about an edit, decided before the loop. Pure data; imports only numpy.

Every solver here is linear in the state x, the network's output, its stored predictions and fresh noise z, so step i is

    output = network(input_scale[i] * x, timesteps[i])
    stored = store_x[i] * x + store_output[i] * output
    x'     = x[i] * x + output[i] * output + sum_k history[i, k] * stored_{k+1 steps ago} + noise[i] * z

and the predicted clean latents, for previews, are denoised_x[i] * x + denoised_output[i] * output.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepTable:
    """One row per network call, float64 `[N]` unless said otherwise.

    Attributes:
        timesteps: what the network is told, fractional where the spacing is.
        input_scale: the network's input is this times x.
        x, output, noise: coefficients of x, of the (guided) network output and of the fresh noise.
        history: `[N, K]` coefficients of the predictions stored 1..K steps ago, newest first; K may be 0.
        store_x, store_output: what this step stores (unused where K is 0).
        denoised_x, denoised_output: the predicted clean latents.
        initial_scale: the first x is this times the initial noise.
    """

    timesteps: Column
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
