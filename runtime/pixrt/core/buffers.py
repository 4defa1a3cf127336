"""The arrays of the loop, allocated once per (shape, batch) and bound to the network once per set of branches.

Letters of the shapes: R branches, B pictures, C latent channels, h x w latents, L tokens, D text width. Must not import
a backend.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, Engine
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.maths.guidance import Branch
from pixrt.maths.tiles import Tiling

Latents = NDArray[np.float32]


class Rows:
    """The network's arrays for one set of branches, branch-major: `[R, B, ...]` is bound as `[R * B, ...]`.

    `noisy` is the first half of the network's input, which every step writes; the second, the source, is held over an
    edit, as the text is, unless not `holds_source`: then it is written with the first. `output` is what the network
    writes.
    """

    def __init__(
        self,
        engine: Engine,
        branches: tuple[Branch, ...],
        batch: int,
        size: tuple[int, int],
        tokens: int,
        *,
        holds_source: bool = True,
    ) -> None:
        table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
        dtypes = {name: np.dtype(tensor.dtype) for name, tensor in table.items()}
        in_channels, channels = table["sample"].fixed(1), table["out_sample"].fixed(1)
        width = table["encoder_hidden_states"].fixed(2)
        rows = len(branches)
        sample = engine.allocate((rows * batch, in_channels, *size), dtypes["sample"])
        output = engine.allocate((rows * batch, channels, *size), dtypes["out_sample"])
        self.branches = branches
        self.sample = sample.reshape(rows, batch, in_channels, *size)
        self.noisy = self.sample[:, :, :channels]  # [R, B, C, h, w]
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
            held={"encoder_hidden_states": 0} | ({"sample": channels} if holds_source else {}),
        )
        self._holds_source = holds_source
        self._null: Array = np.zeros((in_channels - channels, *size), dtypes["sample"])

    def condition(self, conditioning: Conditioning) -> None:
        """Write what stays the same over an edit: text, and source latents in the second half of the sample."""
        for number, branch in enumerate(self.branches):
            contexts, sources = conditioning.contexts[branch], conditioning.sources.get(branch)
            for item, context in enumerate(contexts):
                row = number * len(contexts) + item
                self.run.hold("encoder_hidden_states", row, context)
                if self._holds_source:
                    self.run.hold("sample", row, self._null if sources is None else sources[item])


class TiledRows:
    """`Rows` over latents that are larger than the network takes at once: it runs on one window after the other.

    MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113): the output at a position is the mean of those of the windows
    that hold it, here by weights that fade towards a window's borders. Updates are linear in the output, so this is the
    paper's mean of the windows' next states. `noisy` and `output` are of the whole latents; the windows share one bound
    network, and with it the text that it holds.
    """

    def __init__(self, engine: Engine, branches: tuple[Branch, ...], batch: int, tiling: Tiling, tokens: int) -> None:
        self._tile = tile = Rows(engine, branches, batch, tiling.window, tokens, holds_source=False)
        rows, _, in_channels = tile.sample.shape[:3]
        channels = tile.output.shape[2]
        self.branches = branches
        self.timestep = tile.timestep
        sample = np.zeros((rows, batch, in_channels, *tiling.size), tile.sample.dtype)
        self.noisy = sample[:, :, :channels]  # [R, B, C, h, w]
        self._source = sample[:, :, channels:]
        self.output = np.zeros((rows, batch, channels, *tiling.size), np.float32)
        self._windows = [
            (sample[..., *window], self.output[..., *window], weight)
            for window, weight in zip(tiling.windows(), tiling.weights(), strict=True)
        ]
        self._weighted = np.zeros(tile.output.shape, np.float32)
        self._other = np.zeros(tile.output.shape, np.float32)

    def condition(self, conditioning: Conditioning) -> None:
        """Write what stays the same over an edit: text, and source latents beside the noisy ones."""
        self._tile.condition(conditioning)
        for number, branch in enumerate(self.branches):
            sources = conditioning.sources.get(branch)
            for item in range(self._source.shape[1]):
                self._source[number, item] = 0 if sources is None else sources[item]

    def run(self) -> None:
        """Run every window and join their outputs. Raises BackendError when the backend fails.

        NumPy takes buffers for arithmetic on windows and on arrays that are broadcast; it takes none to copy them.
        """
        tile, weighted, other = self._tile, self._weighted, self._other
        self.output.fill(0)
        for given, made, weight in self._windows:
            np.copyto(tile.sample, given)
            tile.run()
            np.copyto(weighted, tile.output)
            np.copyto(other, weight)  # [h, w] -> [R, B, C, h, w]
            np.multiply(weighted, other, out=weighted)
            np.copyto(other, made)
            np.add(other, weighted, out=other)
            np.copyto(made, other)


LoopRows: TypeAlias = Rows | TiledRows


class Anchors:
    """Where a batch's states are held, and to what: latents and noise there, else 0; all `[B, C, h, w]`.

    `where` is the same for every channel: NumPy would allocate to multiply by `[B, 1, h, w]`.
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.where: Latents = np.zeros(shape, np.float32)
        self.product: Latents = np.zeros(shape, np.float32)  # for what is moved, beside the loop's scratch
        self.latents: Latents = np.zeros(shape, np.float32)
        self.noise: Latents = np.zeros(shape, np.float32)

    def set(self, anchors: Sequence[Anchor], noise: Latents) -> None:
        """Write one batch's."""
        for item, anchor in enumerate(anchors):
            self.where[item] = anchor.where
            np.multiply(anchor.latents, anchor.where, out=self.latents[item])
        np.multiply(noise, self.where, out=self.noise)


class Workspace:
    """Everything the loop touches for B pictures of h x w latents. The state alternates between two arrays.

    The network runs on the windows of `tiling` where there are several, else on the whole latents.
    """

    def __init__(
        self, engine: Engine, batch: int, size: tuple[int, int], tokens: int, tiling: Tiling | None = None
    ) -> None:
        (output,) = engine.outputs
        self.shape: tuple[int, int, int, int] = (batch, output.fixed(1), *size)
        self.states = (self._array(), self._array())
        self.scratch = self._array()
        self._engine = engine
        self._tokens = tokens
        self._tiling = tiling if tiling is not None and tiling.count > 1 else None
        self._history: list[Latents] = []
        self._anchors: Anchors | None = None
        self._noise: NDArray[np.float32] = np.zeros((0, *self.shape), np.float32)
        self._rows: dict[tuple[Branch, ...], LoopRows] = {}

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

    def rows(self, branches: tuple[Branch, ...]) -> LoopRows:
        """The network's arrays for these branches, allocated and bound at the first request."""
        if branches not in self._rows:
            engine, batch, tokens = self._engine, self.shape[0], self._tokens
            self._rows[branches] = (
                Rows(engine, branches, batch, self.shape[2:], tokens)
                if self._tiling is None
                else TiledRows(engine, branches, batch, self._tiling, tokens)
            )
        return self._rows[branches]

    def _array(self) -> NDArray[Any]:
        return np.zeros(self.shape, np.float32)
