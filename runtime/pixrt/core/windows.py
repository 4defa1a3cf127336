"""What of a picture each network runs on at once, and which network runs the loop: decided before anything is opened.

Must not import a backend.
"""

from collections.abc import Container
from dataclasses import dataclass

from pixrt.backends.protocol import Backend, HasShapes
from pixrt.bundles.engine_spec import SizeRange
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.core.fused import order_branches
from pixrt.core.plan import Schedule
from pixrt.errors import EngineError
from pixrt.maths.guidance import active_branches
from pixrt.maths.tiles import Sides, Tiling, fit_tiling, make_tiling


@dataclass(frozen=True, slots=True)
class Work:
    """How one batch's loop runs: by which network, on which windows, how many branches of a picture at every step.

    The windows are in latents of `scale` x `scale` pixels.
    """

    network: Component
    tiling: Tiling
    branches: tuple[int, ...]
    scale: int

    @property
    def rows(self) -> int:
        """Network evaluations of one picture: every branch of every step on every window."""
        return sum(self.branches) * self.tiling.count

    @property
    def window_size(self) -> tuple[int, int]:
        """Width and height of a window in pixels."""
        height, width = self.tiling.window
        return self.scale * width, self.scale * height

    @property
    def tile(self) -> int | None:
        """The longer side of a window in pixels, None where it is the whole picture."""
        return max(self.window_size) if self.tiling.count > 1 else None


class Windows:
    """The windows of a bundle's networks on a backend.

    `tile` is the side of a window in pixels; with None a network takes the whole picture, or where the backend has
    engines for some shapes alone, and none of this picture's, windows of the largest square that it has one for.
    `unet` is the network of the loop. The fused step carries the latents from one step to the next, so it cannot run
    on windows of them: there the plain UNet runs in its place.
    """

    def __init__(self, bundle: Bundle, backend: Backend, unet: Component, tile: int | None) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._backend = backend
        self._unet = unet
        self._tile = None if tile is None else tile // bundle.manifest.vae_scale

    def tiling(self, component: Component, size: Sides, axes: tuple[int, int], *, refit: bool) -> Tiling:
        """The windows, in latents, of a picture of h x w latents. `axes` are the first two of the network's input.

        `refit`: with other weights than its own.
        """
        if self._tile is not None:
            return make_tiling(size, self._tile)
        shapes: tuple[SizeRange, ...] = ()
        if isinstance(self._backend, HasShapes):
            shapes = self._backend.shapes(self._bundle, component, refit=refit)
        scale = self._manifest.vae_scale
        pixels = scale if component is Component.VAE_ENCODER else 1

        def takes(window: Sides) -> bool:
            given = (*axes, pixels * window[0], pixels * window[1])
            return not shapes or any(shape.holds(given) for shape in shapes)

        return fit_tiling(size, max(1, self._manifest.size_multiple // scale), takes)

    def work(self, schedule: Schedule, batch: int, size: Sides, refitted: Container[Component]) -> Work:
        """How the loop of B pictures of h x w latents runs; `refitted` are the networks with other weights.

        Raises EngineError where it needs several windows, and the backend has the fused step alone.
        """
        if self._unet is Component.UNET_STEP:
            axes = batch, self._manifest.latent_channels
            tiling = self.tiling(self._unet, size, axes, refit=self._unet in refitted)
            if tiling.count == 1:
                return Work(self._unet, tiling, tuple(order_branches(schedule.weights)[1]), self._manifest.vae_scale)
            self._require_unet(size, Component.UNET in refitted)
        branches = tuple(len(active_branches(row)) for row in schedule.weights)
        axes = batch * max(branches), self._manifest.unet_in_channels
        tiling = self.tiling(Component.UNET, size, axes, refit=Component.UNET in refitted)
        return Work(Component.UNET, tiling, branches, self._manifest.vae_scale)

    def _require_unet(self, size: Sides, refit: bool) -> None:
        problem = self._backend.problem(self._bundle, Component.UNET, refit=refit)
        if problem is not None:
            height, width = (side * self._manifest.vae_scale for side in size)
            raise EngineError(
                f"a working picture of {width} x {height} needs tiles, which the fused step cannot run on, and neither"
                f" can the UNet: {problem}",
                remedy=f"Build the UNet (`pixrt build {self._bundle.folder} --component unet`), or the fused step for"
                " that size, or use a smaller resolution",
            )
