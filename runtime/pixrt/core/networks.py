"""A bundle's networks as functions with memory: text to embedding, pixels to source latents, latents to pixels.

Each network is opened when first needed. Embeddings are kept by token ids and source latents by content, so a second
edit of the same picture, or with the same instruction, computes neither again. Must not import a backend.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, Backend, BoundCall, CanRefit, Engine, NewWeight
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.core.buffers import Workspace
from pixrt.core.conditioning import Conditioning
from pixrt.core.fused import FusedPlan, FusedWorkspace, plan_fused
from pixrt.core.plan import Plan, Schedule, plan_batch
from pixrt.core.timing import Stopwatch
from pixrt.core.windows import Windows, Work
from pixrt.errors import EngineError, PixrtError
from pixrt.maths.tiles import Sides, blend

Value = TypeVar("Value")

TEXTS_KEPT = 64
SOURCES_KEPT = 32
SHAPES_KEPT = 4
_LOOPS = (Component.UNET, Component.UNET_STEP)


class Networks:
    """The opened networks of one bundle on one backend. Not thread-safe: the editor holds a lock.

    With `low_memory` a network is closed when its stage is over, so that the largest one sets the peak instead of
    their sum, at the price of opening it again for the next edit. `fused_step` runs the fused step in the UNet's place;
    None leaves that to the backend. `tile` is the side, in pixels, of what networks take at once of larger pictures;
    None is all that the backend has engines for. Raises BundleError where the bundle has no fused step.
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
        self._low_memory = low_memory
        if fused_step:
            bundle.manifest.component(Component.UNET_STEP)
        elif fused_step is None:
            fused_step = backend.prefers_fused_step and backend.problem(bundle, Component.UNET_STEP) is None
        self._unet = Component.UNET_STEP if fused_step else Component.UNET
        self._windows = Windows(bundle, backend, self._unet, tile)
        self._engines: dict[Component, Engine] = {}
        self._weights: dict[Component, Callable[[], Iterable[NewWeight]]] = {}
        self._texts: _Recent[Array] = _Recent(TEXTS_KEPT)
        self._sources: _Recent[Array] = _Recent(SOURCES_KEPT)
        self._calls: _Recent[tuple[Array, Array, BoundCall]] = _Recent(SHAPES_KEPT)
        self._workspaces: _Recent[Workspace | FusedWorkspace] = _Recent(SHAPES_KEPT)

    def text(self, ids: tuple[int, ...], clock: Stopwatch) -> Array:
        """The text encoder's last hidden state `[L, D]` for L token ids."""

        def encode() -> Array:
            (hidden,) = self._bundle.manifest.component(Component.TEXT_ENCODER).outputs
            size = (len(ids), hidden.fixed(2))
            return _fixed(self._call(Component.TEXT_ENCODER, "text", np.array(ids), size, clock))

        return self._texts.get(ids, encode)

    def source(self, pixels: NDArray[np.float32], clock: Stopwatch) -> Array:
        """The posterior mean `[C, h, w]` of a picture `[3, H, W]` in [-1, 1], not scaled (parity with the paper)."""

        def encode() -> Array:
            return _fixed(self._on_windows(Component.VAE_ENCODER, "encode", pixels, clock))

        key = (pixels.shape, blake2b(pixels.data, digest_size=16).digest())
        return self._sources.get(key, encode)

    def decode(self, latents: NDArray[np.float32], clock: Stopwatch) -> tuple[NDArray[np.float32], bool]:
        """Pixels `[3, H, W]`, about [-1, 1], of latents `[C, h, w]` as the loop leaves them.

        Some decoders overflow in FP16. Where pixels are not finite, the bundle's FP32 decoder has a second try; the
        second of the result tells. Raises PixrtError where there is none, or its pixels are not finite either.
        """
        scaled = latents / np.float32(self._bundle.manifest.scaling_factor)
        tries = [Component.VAE_DECODER]
        if Component.VAE_DECODER_FP32 in self._bundle.manifest.components and np.isfinite(latents).all():
            tries.append(Component.VAE_DECODER_FP32)
        for component in tries:
            pixels = self._on_windows(component, "decode", scaled, clock).astype(np.float32)
            if np.isfinite(pixels).all():
                return pixels, component is Component.VAE_DECODER_FP32
        broken = int(np.size(pixels) - np.isfinite(pixels).sum())
        raise PixrtError(
            f"the decoded picture holds {broken} of {pixels.size} values that are not finite",
            remedy="Use a bundle exported with --precision fp32",
        )

    def plan(
        self,
        schedule: Schedule,
        seeds: Sequence[int],
        size: tuple[int, int],
        conditioning: Conditioning,
        clock: Stopwatch,
    ) -> Plan | FusedPlan:
        """The plan of one batch of h x w latents; its arrays are kept for the next edit of that shape.

        Raises EngineError where the latents need windows, and the backend has no network that can be run on them.
        """
        batch, tokens = len(seeds), self._bundle.manifest.tokenizer.max_length
        work = self.work(schedule, batch, size)
        engine = self._engine(work.network, clock)

        def make() -> Workspace | FusedWorkspace:
            if work.network is Component.UNET_STEP:
                return FusedWorkspace(engine, batch, size, tokens)
            return Workspace(engine, batch, size, tokens, work.tiling)

        with clock.stage("denoise"):
            workspace = self._workspaces.get((work.network, batch, work.tiling), make)
            if isinstance(workspace, FusedWorkspace):
                return plan_fused(workspace, schedule, seeds, conditioning)
            return plan_batch(workspace, schedule, seeds, conditioning)

    def work(self, schedule: Schedule, batch: int, size: Sides) -> Work:
        """How `plan` would run its loop. Raises EngineError as that."""
        return self._windows.work(schedule, batch, size, self._weights)

    @contextmanager
    def stage(self, component: Component) -> Iterator[None]:
        """The part of an edit that needs a network; with `low_memory` it is closed after it, also after an error."""
        try:
            yield
        finally:
            if self._low_memory:
                for network in self.running(component):
                    self._close(network)
                if component is Component.VAE_DECODER:
                    self._close(Component.VAE_DECODER_FP32)

    def replace(self, component: Component, weights: Callable[[], Iterable[NewWeight]] | None) -> None:
        """From now on run a network with these weights, None for its own; what was computed with others goes.

        Raises EngineError where the backend cannot: then nothing has changed, or the network is opened anew. Of the
        plain UNet behind a fused step that is told when it is needed.
        """
        is_needed = component is self._unet or component not in _LOOPS
        problem = self._backend.problem(self._bundle, component, refit=True) if weights and is_needed else None
        if problem is not None:
            raise EngineError(problem, remedy=_REFITTABLE)
        engine = self._engines.get(component)
        refitted = False
        try:
            refitted = isinstance(engine, CanRefit) and engine.refit(weights() if weights else ())
        finally:
            if not refitted:  # also one that a failure left half refitted
                self._close(component)
        if component is Component.TEXT_ENCODER:
            self._texts.clear()
        if component is Component.VAE_ENCODER:
            self._sources.clear()
        if weights is None:
            self._weights.pop(component, None)
        else:
            self._weights[component] = weights

    def close(self) -> None:
        """Free every network and array."""
        for component in tuple(self._engines):
            self._close(component)
        self._texts.clear()
        self._sources.clear()

    def running(self, component: Component) -> tuple[Component, ...]:
        """The networks that stand for a component: for the UNet also the fused step, which has its weights."""
        if component is Component.UNET and self._unet is Component.UNET_STEP:
            return (Component.UNET_STEP, Component.UNET)
        return (component,)

    def _close(self, component: Component) -> None:
        # Bound calls keep a session alive: they go first.
        if component in _LOOPS:
            self._workspaces.clear()
        else:
            self._calls.clear()
        engine = self._engines.pop(component, None)
        if engine is not None:
            engine.close()

    def _engine(self, component: Component, clock: Stopwatch) -> Engine:
        if component not in self._engines:
            with clock.stage("load"):
                weights = self._weights[component]() if component in self._weights else ()
                self._engines[component] = self._backend.open(self._bundle, component, weights)
        return self._engines[component]

    def _call(
        self, component: Component, stage: str, data: Array, out_shape: tuple[int, ...], clock: Stopwatch
    ) -> Array:
        """Run a network of one input and one output on one item; what is bound is kept for the next of that shape."""
        engine = self._engine(component, clock)
        with clock.stage(stage):
            (source,), (target,) = engine.inputs, engine.outputs

            def bind() -> tuple[Array, Array, BoundCall]:
                given = engine.allocate((1, *data.shape), source.dtype)
                result = engine.allocate((1, *out_shape), target.dtype)
                return given, result, engine.bind({source.name: given, target.name: result})

            given, result, run = self._calls.get((component, data.shape), bind)
            given[0] = data
            run()
            answer: Array = result[0].copy()
            return answer

    def _on_windows(self, component: Component, stage: str, data: Array, clock: Stopwatch) -> Array:
        """The VAE on one picture `[3, H, W]` or its latents `[C, h, w]`, in windows where it takes no more at once."""
        manifest, encodes = self._bundle.manifest, component is Component.VAE_ENCODER
        scale = manifest.vae_scale
        height, width = (side // scale if encodes else side for side in data.shape[1:])
        latents = self._windows.tiling(component, (height, width), (1, len(data)), refit=component in self._weights)
        pixels = latents.scaled(scale)
        given, made = (pixels, latents) if encodes else (latents, pixels)
        shape = (manifest.latent_channels if encodes else 3, *made.window)
        return blend(lambda window: self._call(component, stage, window, shape, clock), data, given, made)


_REFITTABLE = "Build it with `--refittable`, or merge the LoRA: `pixrt export --lora`, then `pixrt build`"


def _fixed(values: Array) -> Array:
    """Values that nobody may change any more: a backend may keep them on its device."""
    values.setflags(write=False)
    return values


class _Recent(Generic[Value]):
    """The values last asked for, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]

    def clear(self) -> None:
        self._values.clear()
