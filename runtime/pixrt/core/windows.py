"""On what of a picture each network runs at once, and which network runs the loop: decided before anything is opened.

Must not import a backend.
"""

from collections.abc import Container
from dataclasses import dataclass

from pixrt.backends.protocol import Backend, HasShapes
from pixrt.bundles.engine_spec import SizeRange
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.core.rows import Taken
from pixrt.errors import EngineError
from pixrt.maths.tiles import Sides, Tiling, fit_tiling, make_tiling


@dataclass(frozen=True, slots=True)
class Work:
    """How a picture's loop runs: by which network, on which tiles. Pictures of the same work can share a call.

    The tiles are in latents of `scale` x `scale` pixels. Texts are in so many `pieces` of the text encoder's length.
    `caches`: the shallow network runs beside the first, at some of the steps.
    """

    network: Component
    tiling: Tiling
    scale: int
    pieces: int = 1
    caches: bool = False

    @property
    def tile_size(self) -> tuple[int, int]:
        """Width and height of a tile in pixels."""
        height, width = self.tiling.window
        return self.scale * width, self.scale * height

    @property
    def tile(self) -> int | None:
        """The longer side of a tile in pixels, None if it is the whole picture."""
        return max(self.tile_size) if self.tiling.count > 1 else None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a pool may have: `slots`, and of rows `most`, in the numbers that the engine takes."""

    slots: int
    most: int
    taken: Taken


class Windows:
    """The tiles of a bundle's networks on a backend.

    `tile` is the side of a tile in pixels; with None a network takes the whole picture, or if the backend has engines
    for some shapes only, and none of this picture's, tiles of the largest square that it has one for. `unet` is the
    network of the loop. The fused step carries the latents from one step to the next, so it cannot run on tiles of
    them: there the plain UNet runs in its place.
    """

    def __init__(self, bundle: Bundle, backend: Backend, unet: Component, tile: int | None) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._backend = backend
        self._unet = unet
        self._tile = None if tile is None else tile // bundle.manifest.latents.scale

    def tiling(self, component: Component, size: Sides, axes: tuple[int, int], *, refit: bool) -> Tiling:
        """The tiles, in latents, of a picture of h x w latents.

        `axes` are the first two of the network's input, the first one at least so large. `refit`: with other weights
        than its own.
        """
        if self._tile is not None:
            return make_tiling(size, self._tile)
        shapes = self._shapes(component, refit)
        scale = self._manifest.latents.scale
        pixels = scale if component is Component.VAE_ENCODER else 1

        def takes(window: Sides) -> bool:
            given = (axes[1], pixels * window[0], pixels * window[1])
            return not shapes or any(_takes(shape, axes[0], given) for shape in shapes)

        return fit_tiling(size, max(1, self._manifest.size_multiple // scale), takes)

    def work(self, branches: int, size: Sides, refitted: Container[Component], pieces: int = 1) -> Work:
        """How the loop of a picture of h x w latents runs, with so many branches at most, and texts in so many pieces.

        `refitted` are the networks with other weights. Raises EngineError if it needs several tiles, and the backend
        has only the fused step; and if no engine takes so long a text.
        """
        scale = self._manifest.latents.scale
        if self._unet is Component.UNET_STEP:
            axes = 1, self._manifest.latents.channels
            tiling = self.tiling(self._unet, size, axes, refit=self._unet in refitted)
            if tiling.count == 1:
                self._require_rows(self._unet, pieces, refit=self._unet in refitted)
                return Work(self._unet, tiling, scale, pieces)
            self._require_unet(size, Component.UNET in refitted)
        axes = branches, self._manifest.unet_in_channels
        refit = Component.UNET in refitted
        self._require_rows(Component.UNET, pieces, refit=refit)
        return Work(Component.UNET, self.tiling(Component.UNET, size, axes, refit=refit), scale, pieces)

    def capacity(
        self, work: Work, slots: int, branches: int, refitted: Container[Component], most_rows: int | None = None
    ) -> Capacity:
        """How many of `slots` pictures, with so many branches at most, the engines of a work take at once.

        `most_rows` is how many rows a step may have, None for all of them.
        """
        refit, size = work.network in refitted, work.tiling.window
        wanted = slots * branches if most_rows is None else min(most_rows, slots * branches)
        shapes = self._shapes(work.network, refit)
        if work.network is Component.UNET:
            channels = self._manifest.unet_in_channels
            fitting = (shape for shape in shapes if shape.holds((shape.min[0], channels, *size)))
            taken = tuple((shape.min[0], shape.max[0]) for shape in fitting)
            return Capacity(slots, min(wanted, max((most for _, most in taken), default=wanted)), taken)
        rows = self._shapes(work.network, refit, "context")
        pairs = [
            (latents, contexts)
            for latents, contexts in zip(shapes, rows, strict=True)
            if latents.holds((latents.min[0], self._manifest.latents.channels, *size))
        ]
        if not pairs:
            return Capacity(slots, wanted, ())
        slots = max(max(latents.min[0], min(slots, latents.max[0])) for latents, _ in pairs)
        taken = tuple(
            (contexts.min[0], contexts.max[0])
            for latents, contexts in pairs
            if latents.min[0] <= slots <= latents.max[0]
        )
        return Capacity(slots, min(wanted, slots * branches, max(most for _, most in taken)), taken)

    def _shapes(self, component: Component, refit: bool, tensor: str | None = None) -> tuple[SizeRange, ...]:
        """See `HasShapes.shapes`; none for a backend that takes every shape."""
        if not isinstance(self._backend, HasShapes):
            return ()
        return self._backend.shapes(self._bundle, component, refit=refit, tensor=tensor)

    def _require_rows(self, network: Component, pieces: int, *, refit: bool) -> None:
        """Raise EngineError if a backend's engines take no text in so many pieces."""
        context = "context" if network is Component.UNET_STEP else "encoder_hidden_states"
        rows = pieces * self._manifest.tokenizers[0].max_length
        most = [shape.max[1] for shape in self._shapes(network, refit, context)] if pieces > 1 else []
        if most and max(most) < rows:
            raise EngineError(
                f"the text takes {rows} rows, and the engines of {network} take {max(most)}",
                remedy="Shorten the text, leave long_prompts out, or choose another backend",
            )

    def _require_unet(self, size: Sides, refit: bool) -> None:
        problem = self._backend.problem(self._bundle, Component.UNET, refit=refit)
        if problem is not None:
            height, width = (side * self._manifest.latents.scale for side in size)
            raise EngineError(
                f"a working picture of {width} x {height} needs tiles, which the fused step cannot run on, and neither"
                f" can the UNet: {problem}",
                remedy=f"Build the UNet (`pixrt build {self._bundle.folder} --component unet`), or the fused step for"
                " that size, or use a smaller resolution",
            )


def _takes(shape: SizeRange, least: int, rest: tuple[int, ...]) -> bool:
    """Whether an engine takes an input of these axes behind the first, with `least` or more there."""
    return least <= shape.max[0] and shape.holds((max(least, shape.min[0]), *rest))
