"""The arrays of the loop, allocated once per (shape, batch) and bound to the network once per set of branches.

Letters of the shapes: R branches, B pictures, C latent channels, h x w latents, L tokens, D text width. Must not import
a backend.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, Engine
from pixrt.conditioning import Anchor, Conditioning
from pixrt.guidance import Branch

Latents = NDArray[np.float32]


class Rows:
    """The network's arrays for one set of branches, branch-major: `[R, B, ...]` is bound as `[R * B, ...]`.

    `noisy` is the first half of the network's input, which every step writes; the second, the source, is held over an
    edit, as the text is. `output` is what the network writes.
    """

    def __init__(
        self, engine: Engine, branches: tuple[Branch, ...], batch: int, size: tuple[int, int], tokens: int
    ) -> None:
        table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
        dtypes = {name: np.dtype(tensor.dtype) for name, tensor in table.items()}
        in_channels, channels = table["sample"].fixed(1), table["out_sample"].fixed(1)
        width = table["encoder_hidden_states"].fixed(2)
        rows = len(branches)
        sample = engine.allocate((rows * batch, in_channels, *size), dtypes["sample"])
        output = engine.allocate((rows * batch, channels, *size), dtypes["out_sample"])
        self.branches = branches
        self.noisy = sample.reshape(rows, batch, in_channels, *size)[:, :, :channels]  # [R, B, C, h, w]
        self.timestep = engine.allocate((rows * batch,), dtypes["timestep"])
        self.output = output.reshape(rows, batch, channels, *size)
        self.run = engine.bind(
            {
                "sample": sample,
                "timestep": self.timestep,
                "encoder_hidden_states": engine.allocate(
                    (rows * batch, tokens, width), dtypes["encoder_hidden_states"]
                ),
                "out_sample": output,
            },
            held={"sample": channels, "encoder_hidden_states": 0},
        )
        self._null: Array = np.zeros((in_channels - channels, *size), dtypes["sample"])

    def condition(self, conditioning: Conditioning) -> None:
        """Write what stays the same over an edit: text, and source latents in the second half of the sample."""
        for number, branch in enumerate(self.branches):
            contexts, sources = conditioning.contexts[branch], conditioning.sources.get(branch)
            for item, context in enumerate(contexts):
                row = number * len(contexts) + item
                self.run.hold("encoder_hidden_states", row, context)
                self.run.hold("sample", row, self._null if sources is None else sources[item])


class Anchors:
    """Where a batch's states are held, and to what: latents and noise there, else 0; all `[B, C, h, w]`.

    `where` is the same for every channel: NumPy would allocate to multiply by `[B, 1, h, w]`.
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.where: Latents = np.zeros(shape, np.float32)
        self.latents: Latents = np.zeros(shape, np.float32)
        self.noise: Latents = np.zeros(shape, np.float32)

    def set(self, anchors: Sequence[Anchor], noise: Latents) -> None:
        """Write one batch's."""
        for item, anchor in enumerate(anchors):
            self.where[item] = anchor.where
            np.multiply(anchor.latents, anchor.where, out=self.latents[item])
        np.multiply(noise, self.where, out=self.noise)


class Workspace:
    """Everything the loop touches for B pictures of h x w latents. The state alternates between two arrays."""

    def __init__(self, engine: Engine, batch: int, size: tuple[int, int], tokens: int) -> None:
        (output,) = engine.outputs
        self.shape: tuple[int, int, int, int] = (batch, output.fixed(1), *size)
        self.states = (self._array(), self._array())
        self.scratch = self._array()
        self._engine = engine
        self._tokens = tokens
        self._history: list[Latents] = []
        self._anchors: Anchors | None = None
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

    @property
    def anchors(self) -> Anchors:
        """Room for what states are held to, allocated at the first request."""
        if self._anchors is None:
            self._anchors = Anchors(self.shape)
        return self._anchors

    def rows(self, branches: tuple[Branch, ...]) -> Rows:
        """The network's arrays for these branches, allocated and bound at the first request."""
        if branches not in self._rows:
            self._rows[branches] = Rows(self._engine, branches, self.shape[0], self.shape[2:], self._tokens)
        return self._rows[branches]

    def _array(self) -> NDArray[Any]:
        return np.zeros(self.shape, np.float32)
