"""A bundle on a backend: its encoders, and pools in which its pictures advance. Must not import a backend."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pixrt.backends.protocol import Backend, Engine
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.core.caches import Recent
from pixrt.core.encoders import Encoders
from pixrt.core.engines import LOOPS, Engines, Weights
from pixrt.core.families.family import family_of
from pixrt.core.fused import FusedPool
from pixrt.core.pool import HostPool, Pool
from pixrt.core.rows import Rows, Taken, TiledRows
from pixrt.core.timing import Stopwatch
from pixrt.core.track import Steps
from pixrt.core.windows import Capacity, Windows, Work
from pixrt.errors import OptionError
from pixrt.maths.tiles import Sides

POOL_BYTES = 1 << 30


class Networks:
    """The opened networks of one bundle on one backend. Not thread-safe: the editor holds a lock.

    With `low_memory` a network is closed when its stage is over, so that the largest one sets the peak instead of
    their sum, at the price of opening it again for the next edit. `fused_step` runs the fused step in the UNet's place;
    None leaves that to the backend. `tile` is the side, in pixels, of what networks take at once of larger pictures;
    None is all that the backend has engines for. Raises BundleError if the bundle has no fused step.

    `generation` counts changes of weights: pools of an earlier one are void.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        low_memory: bool = False,
        fused_step: bool | None = None,
        tile: int | None = None,
    ) -> None:
        self._bundle = bundle
        self._backend = backend
        self.low_memory = low_memory
        if fused_step:
            bundle.manifest.component(Component.UNET_STEP)
        elif fused_step is None:
            fused_step = backend.prefers_fused_step and backend.problem(bundle, Component.UNET_STEP) is None
        self._unet = Component.UNET_STEP if fused_step else Component.UNET
        self._windows = Windows(bundle, backend, self._unet, tile)
        self._engines = Engines(bundle, backend, self._forget)
        self.family = family_of(bundle.manifest)
        self.encoders = Encoders(bundle.manifest, self.family, self._engines, self._windows)
        self._pools: Recent[Pool] = Recent(POOL_BYTES, lambda pool: pool.bytes)
        self.generation = 0

    @property
    def open(self) -> tuple[Component, ...]:
        """The networks that are open."""
        return self._engines.open

    @property
    def caches(self) -> Mapping[str, Recent[Any]]:
        """What is kept for its next use."""
        return {**self.encoders.caches, "pools": self._pools}

    def work(self, branches: int, size: Sides, *, pieces: int = 1, refit: bool = False) -> Work:
        """How a picture of h x w latents runs that has so many branches at most, and texts in so many pieces.

        See `Windows.work`.

        `refit`: as if the loop's network had other weights than its own already.
        """
        return self._windows.work(branches, size, self._refitted(refit), pieces)

    def work_of(self, steps: Steps, size: Sides, *, pieces: int = 1, refit: bool = False) -> Work:
        """How the loop of a picture of these steps runs: see `work`.

        Raises OptionError where nothing here can use predictions or features again, and the steps do.
        """
        work = self.work(steps.most_branches, size, pieces=pieces, refit=refit)
        for name, is_used in (("branch_interval", steps.holds), ("cache_interval", steps.caches)):
            if is_used and work.network is Component.UNET_STEP:
                raise OptionError(
                    f"{name} is more than 1, and the fused step computes all of it at every step",
                    remedy=f"Leave {name} out, or open the bundle with --no-fused-step, for which TensorRT needs"
                    f" engines of the UNet: `pixrt build {self._bundle.folder} --component unet`",
                    option=name,
                )
        if not steps.caches:
            return work
        shallow = Component.UNET_SHALLOW
        problem = self._backend.problem(self._bundle, shallow, refit=refit or shallow in self._engines.refitted)
        if problem is not None:
            raise OptionError(
                f"cache_interval is more than 1, and the backend {self._backend.name} cannot run {shallow}: {problem}",
                remedy="Leave cache_interval out, or choose another backend, such as ort-cpu or ort-cuda",
                option="cache_interval",
            )
        return replace(work, caches=True)

    @property
    def levers(self) -> frozenset[str]:
        """What can be used again here, whatever the picture: see `pixrt.options.ladder.LEVERS`."""
        if self._unet is Component.UNET_STEP:
            return frozenset()
        shallow = Component.UNET_SHALLOW
        refit = shallow in self._engines.refitted
        if shallow not in self._bundle.manifest.components or self._backend.problem(self._bundle, shallow, refit=refit):
            return frozenset({"branch_interval"})
        return frozenset({"branch_interval", "cache_interval"})

    def _refitted(self, refit: bool) -> frozenset[Component]:
        return frozenset(LOOPS) if refit else self._engines.refitted

    def capacity(self, work: Work, slots: int, most_rows: int | None = None, *, refit: bool = False) -> Capacity:
        """How many of `slots` pictures of a work can be in a pool together, and how many rows step at once.

        `most_rows` is the most that is wanted; None is all of them. `refit`: see `work`.
        """
        return self._windows.capacity(work, slots, self.family.branches, self._refitted(refit), most_rows)

    def open_aside(self, work: Work) -> None:
        """Begin to open what a picture of a work needs after its encoders, while those are opened and run."""
        if not self.low_memory:
            self._engines.open_aside((work.network, Component.VAE_DECODER))

    def take_pool(self, work: Work, slots: int, clock: Stopwatch, most_rows: int | None = None) -> Pool:
        """A pool of so many slots, or as many as the engines take, for nobody else until it is given back.

        Its arrays are kept from one use to the next. `most_rows`: see `capacity`.
        """
        pool = self._pools.take((work, slots, most_rows))
        return self._make_pool(work, slots, clock, most_rows) if pool is None else pool

    def give_back(self, pool: Pool, work: Work, slots: int, generation: int, most_rows: int | None = None) -> None:
        """Give back an empty pool, taken when the weights were those of `generation`."""
        if generation == self.generation:
            self._pools.put((work, slots, most_rows), pool)

    def _make_pool(self, work: Work, slots: int, clock: Stopwatch, most_rows: int | None) -> Pool:
        engine = self._engines.get(work.network, clock)
        capacity = self.capacity(work, slots, most_rows)
        tokens, tiling = self.family.tokens * work.pieces, work.tiling
        room = max(capacity.most, self.family.branches)  # what is too much for the engine, it says itself
        with clock.stage("denoise"):
            if work.network is Component.UNET_STEP:
                return FusedPool(engine, capacity.slots, tiling.size, tokens, room, capacity.taken)
            rows = self._rows(engine, room, work, tokens, capacity.taken)
            shape = self._bundle.manifest.latents.channels, *tiling.size
            if not work.caches:
                return HostPool(rows, capacity.slots, shape)
        shallow = self._engines.get(Component.UNET_SHALLOW, clock)
        with clock.stage("denoise"):
            return HostPool(rows, capacity.slots, shape, self._rows(shallow, room, work, tokens))

    def _rows(self, engine: Engine, room: int, work: Work, tokens: int, taken: Taken = ()) -> Rows | TiledRows:
        cache = self._bundle.manifest.deep_cache
        scale = cache.scale if cache else 1
        if work.tiling.count > 1:
            return TiledRows(engine, room, work.tiling, tokens, taken=taken, feature_scale=scale)
        return Rows(engine, room, work.tiling.size, tokens, taken=taken, feature_scale=scale)

    def close_stage(self, component: Component) -> None:
        """Close the networks that stand for a component."""
        for network in self.running(component):
            self._engines.close(network)
        if component is Component.VAE_DECODER:
            self._engines.close(Component.VAE_DECODER_FP32)

    def replace(self, component: Component, weights: Weights | None) -> None:
        """From now on run a network with these weights, None for its own; what was computed with others goes.

        Raises EngineError if the backend cannot: see `Engines.replace`.
        """
        self.generation += 1
        self._pools.clear()
        self._engines.replace(component, weights, is_needed=component is self._unet or component not in LOOPS)
        self.encoders.forget_answers(component)

    def close(self) -> None:
        """Free every network and array."""
        self.generation += 1
        for component in self._engines.open:
            self._engines.close(component)
        for component in Component:
            self.encoders.forget_answers(component)

    def running(self, component: Component) -> tuple[Component, ...]:
        """The networks that stand for a component: for the UNet also those that have its weights."""
        if component is not Component.UNET:
            return (component,)
        others = (Component.UNET_STEP,) if self._unet is Component.UNET_STEP else ()
        shallow = (Component.UNET_SHALLOW,) if Component.UNET_SHALLOW in self._bundle.manifest.components else ()
        return (*others, component, *shallow)

    def _forget(self, component: Component) -> None:
        """Bound calls keep a session alive: they go first."""
        if component in LOOPS:
            self._pools.clear()
        else:
            self.encoders.forget(component)
