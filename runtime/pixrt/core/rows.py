"""The network's arrays of a pool, bound once: a step fills the first rows and runs only those.

A UNet that was exported for DeepCache also gives the feature that its last, shallow layers go on from, and the shallow
network takes it. A picture keeps its own features: rows are linked to where.

Letters: R rows (network evaluations), C latent channels, h x w latents, L tokens, D text width. Must not import a
backend.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, Engine
from pixrt.core.conditioning import Latents
from pixrt.maths.tiles import Tiling

Taken = Sequence[tuple[int, int]]
"""Numbers of rows that an engine takes, from and to; none if it takes any."""
Features = Sequence[Array]
"""The deep layers' output of one branch of one picture, `[F, h', w']` for each tile."""
FEATURE = "deep_feature"


def padded(rows: int, taken: Taken) -> int:
    """The fewest rows, not less than these, that an engine takes; these, if it takes none so large: it says so."""
    fitting = [max(rows, least) for least, most in taken if rows <= most]
    return min(fitting, default=rows)


class LoopRows(Protocol):
    """What a pool writes before a step, and reads after it.

    `noisy` `[R, C, h, w]` is the latents' part of the network's input, `timestep` `[R]` FP32, `output` `[R, C, h, w]`
    FP32 what the network made of them.
    """

    noisy: Array
    timestep: NDArray[np.float32]
    output: Latents

    def hold(self, row: int, context: Array, source: Array | None) -> None:
        """Set a row's text `[L, D]` and source latents, None for the null picture; they stay until set again."""

    def link(self, row: int, features: Features | None) -> None:
        """Where the row's features are written to, or, by the shallow network, read from; None for nowhere."""

    def make_features(self) -> Features:
        """Room for the features of one row; none if the network has none."""

    def run(self, rows: int) -> None:
        """Run the network on the first rows. Raises BackendError."""

    @property
    def bytes(self) -> int:
        """Size of all arrays."""


class Rows:
    """The network on the whole latents.

    With `holds_source` the source, the second part of the network's input, is held from one step to the next, as the
    text is; without, it is written with the first. A position of a feature stands for `feature_scale` latents each way.
    """

    def __init__(
        self,
        engine: Engine,
        most: int,
        size: tuple[int, int],
        tokens: int,
        *,
        taken: Taken = (),
        holds_source: bool = True,
        feature_scale: int = 1,
    ) -> None:
        table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
        in_channels, channels = table["sample"].fixed(1), table["out_sample"].fixed(1)
        self._padded = [padded(rows, taken) for rows in range(most + 1)]
        room = max(self._padded)
        shapes = {
            "sample": (room, in_channels, *size),
            "timestep": (room,),
            "encoder_hidden_states": (room, tokens, table["encoder_hidden_states"].fixed(2)),
            "out_sample": (room, channels, *size),
        }
        if FEATURE in table:
            shapes[FEATURE] = (room, table[FEATURE].fixed(1), *(-(-side // feature_scale) for side in size))
        arrays = {name: engine.allocate(shape, table[name].dtype) for name, shape in shapes.items()}
        held = {"encoder_hidden_states": 0} | ({"sample": channels} if holds_source else {})
        self._call = engine.bind(arrays, held=held)
        self._holds_source = holds_source
        self._null: Array = np.zeros((in_channels - channels, *size), arrays["sample"].dtype)
        self._made = arrays["out_sample"]
        self._held: list[tuple[Array | None, Array | None]] = [(None, None)] * most
        self._feature: Array = arrays.get(FEATURE, np.zeros((0, 0), np.float32))
        self._takes_feature = any(tensor.name == FEATURE for tensor in engine.inputs)
        self._links: list[Features | None] = [None] * most
        self.sample = arrays["sample"]
        self.noisy = self.sample[:, :channels]
        self.timestep: NDArray[np.float32] = arrays["timestep"]
        is_fp32 = self._made.dtype == np.float32
        self.output: Latents = self._made if is_fp32 else np.zeros(self._made.shape, np.float32)
        self.bytes = sum(array.nbytes for array in arrays.values()) + (0 if is_fp32 else self.output.nbytes)

    def hold(self, row: int, context: Array, source: Array | None) -> None:
        """See `LoopRows.hold`. What a row holds already is not set again: arrays of a conditioning do not change."""
        source = self._null if source is None else source
        was = self._held[row]
        if was[0] is context and was[1] is source:
            return
        if was[0] is not context:
            self._call.hold("encoder_hidden_states", row, context)
        if self._holds_source and was[1] is not source:
            self._call.hold("sample", row, source)
        self._held[row] = context, source

    def link(self, row: int, features: Features | None) -> None:
        """See `LoopRows.link`."""
        self._links[row] = features

    def make_features(self, tiles: int = 1) -> Features:
        """See `LoopRows.make_features`."""
        return tuple(np.zeros_like(self._feature[0]) for _ in range(tiles if self._feature.size else 0))

    def run(self, rows: int, tile: int = 0) -> None:
        """See `LoopRows.run`. What an engine takes only with more rows runs with old ones behind them.

        The features are those of a tile.
        """
        linked = [(row, features[tile]) for row, features in enumerate(self._links[:rows]) if features is not None]
        if self._takes_feature:
            for row, feature in linked:
                np.copyto(self._feature[row], feature)
        self._call(self._padded[rows])
        if not self._takes_feature:
            for row, feature in linked:
                np.copyto(feature, self._feature[row])
        if self.output is not self._made:
            np.copyto(self.output[:rows], self._made[:rows])


class TiledRows:
    """`Rows` over latents that are larger than the network takes at once: it runs on one tile after the other.

    MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113): the output at a position is the mean of those of the tiles
    that hold it, here by weights that fade towards a tile's borders. Updates are linear in the output, so this is the
    paper's mean of the tiles' next states. `noisy` and `output` are of the whole latents; the tiles share one bound
    network, and with it the text that it holds.
    """

    def __init__(
        self,
        engine: Engine,
        most: int,
        tiling: Tiling,
        tokens: int,
        *,
        taken: Taken = (),
        feature_scale: int = 1,
    ) -> None:
        given: dict[str, Any] = {"taken": taken, "feature_scale": feature_scale}
        self._tile = tile = Rows(engine, most, tiling.window, tokens, **given, holds_source=False)
        in_channels, channels = tile.sample.shape[1], tile.output.shape[1]
        sample = np.zeros((most, in_channels, *tiling.size), tile.sample.dtype)
        self.timestep = tile.timestep
        self.noisy = sample[:, :channels]
        self._source = sample[:, channels:]
        self._sources: list[Array | None] = [None] * most
        self.output: Latents = np.zeros((most, channels, *tiling.size), np.float32)
        self._tiles = [
            (sample[..., *window], self.output[..., *window], weight)
            for window, weight in zip(tiling.windows(), tiling.weights(), strict=True)
        ]
        self._weighted: Latents = np.zeros(tile.output.shape, np.float32)
        self._other: Latents = np.zeros(tile.output.shape, np.float32)
        self.bytes = tile.bytes + sample.nbytes + self.output.nbytes + 2 * self._other.nbytes

    def hold(self, row: int, context: Array, source: Array | None) -> None:
        """See `LoopRows.hold`: the text is the tiles' own, the source stands beside the noisy latents."""
        self._tile.hold(row, context, None)
        if self._sources[row] is not source:
            self._source[row] = 0 if source is None else source
            self._sources[row] = source

    def link(self, row: int, features: Features | None) -> None:
        """See `LoopRows.link`."""
        self._tile.link(row, features)

    def make_features(self) -> Features:
        """See `LoopRows.make_features`: each tile has its own."""
        return self._tile.make_features(len(self._tiles))

    def run(self, rows: int) -> None:
        """Run every tile and join their outputs. Raises BackendError when the backend fails.

        NumPy takes buffers for arithmetic on tiles and on arrays that are broadcast; it takes none to copy them.
        """
        tile, weighted, other = self._tile, self._weighted[:rows], self._other[:rows]
        self.output[:rows].fill(0)
        for number, (given, made, weight) in enumerate(self._tiles):
            np.copyto(tile.sample[:rows], given[:rows])
            tile.run(rows, number)
            np.copyto(weighted, tile.output[:rows])
            np.copyto(other, weight)  # [h, w] -> [R, C, h, w]
            np.multiply(weighted, other, out=weighted)
            np.copyto(other, made[:rows])
            np.add(other, weighted, out=other)
            np.copyto(made[:rows], other)
