"""The arrays of the loop, allocated once per (shape, batch) and bound to the network once per set of branches.

Letters of the shapes: R branches, B pictures, C latent channels, h x w latents, L tokens, D text width. Must not import
a backend.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, Engine
from pixrt.guidance import Branch

Latents = NDArray[np.float32]


class Rows:
    """The network's arrays for one set of branches, branch-major: `[R, B, ...]` is bound as `[R * B, ...]`.

    `noisy` and `source` are the two halves of the network's input: every step writes the first, an edit writes the
    second once. `output` is what the network writes.
    """

    def __init__(
        self, engine: Engine, branches: tuple[Branch, ...], batch: int, size: tuple[int, int], tokens: int
    ) -> None:
        table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
        dtypes = {name: np.dtype(tensor.dtype) for name, tensor in table.items()}
        in_channels, channels = table["sample"].fixed(1), table["out_sample"].fixed(1)
        width = table["encoder_hidden_states"].fixed(2)
        rows = len(branches)
        sample: Array = np.zeros((rows, batch, in_channels, *size), dtypes["sample"])  # [R, B, C + C, h, w]
        self.branches = branches
        self.noisy = sample[:, :, :channels]
        self.source = sample[:, :, channels:]
        self.timestep: Array = np.zeros(rows * batch, dtypes["timestep"])
        self.context: Array = np.zeros((rows, batch, tokens, width), dtypes["encoder_hidden_states"])
        self.output: Array = np.zeros((rows, batch, channels, *size), dtypes["out_sample"])
        self.run = engine.bind(
            {
                "sample": sample.reshape(rows * batch, in_channels, *size),
                "timestep": self.timestep,
                "encoder_hidden_states": self.context.reshape(rows * batch, tokens, width),
                "out_sample": self.output.reshape(rows * batch, channels, *size),
            }
        )

    def condition(self, contexts: Mapping[Branch, Array], sources: Mapping[Branch, Array]) -> None:
        """Write what stays the same over an edit: text `[B, L, D]` and source latents `[B, C_source, h, w]`.

        A branch that is not in `sources` gets zero latents, the null picture.
        """
        for row, branch in enumerate(self.branches):
            self.context[row] = contexts[branch]
            self.source[row] = sources.get(branch, 0)


class Workspace:
    """Everything the loop touches for B pictures of h x w latents. The state alternates between two arrays."""

    def __init__(self, engine: Engine, batch: int, size: tuple[int, int], tokens: int) -> None:
        (output,) = engine.outputs
        self.shape = (batch, output.fixed(1), *size)
        self.states = (self._array(), self._array())
        self.scratch = self._array()
        self._engine = engine
        self._tokens = tokens
        self._history: list[Latents] = []
        self._noise: NDArray[np.float32] = np.zeros((0, *self.shape), np.float32)
        self._rows: dict[tuple[Branch, ...], Rows] = {}

    def noise(self, calls: int) -> NDArray[np.float32]:
        """Room for the initial noise and one draw per call, `[1 + calls, B, C, h, w]`."""
        if len(self._noise) < 1 + calls:
            self._noise = np.zeros((1 + calls, *self.shape), np.float32)
        return self._noise[: 1 + calls]

    def history(self, slots: int) -> list[Latents]:
        """`slots` arrays for stored predictions, allocated at the first request for so many."""
        while len(self._history) < slots:
            self._history.append(self._array())
        return self._history[:slots]

    def rows(self, branches: tuple[Branch, ...]) -> Rows:
        """The network's arrays for these branches, allocated and bound at the first request."""
        if branches not in self._rows:
            self._rows[branches] = Rows(self._engine, branches, self.shape[0], self.shape[2:], self._tokens)
        return self._rows[branches]

    def _array(self) -> NDArray[Any]:
        return np.zeros(self.shape, np.float32)
