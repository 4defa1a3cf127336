"""A bundle's networks as functions with memory: text to embedding, pixels to source latents, latents to pixels.

Each network is opened when first needed. Embeddings are kept by token ids and source latents by content, so a second
edit of the same picture, or with the same instruction, computes neither again. Must not import a backend.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, Backend, BoundCall, Engine, NewWeight
from pixrt.buffers import Workspace
from pixrt.errors import PixrtError
from pixrt.spec import Component
from pixrt.store import Bundle
from pixrt.timing import Stopwatch

Value = TypeVar("Value")

TEXTS_KEPT = 64
SOURCES_KEPT = 32
SHAPES_KEPT = 4


class Networks:
    """The opened networks of one bundle on one backend. Not thread-safe: the editor holds a lock.

    With `low_memory` a network is closed when its stage is over, so that the largest one sets the peak instead of
    their sum, at the price of opening it again for the next edit.
    """

    def __init__(self, bundle: Bundle, backend: Backend, *, low_memory: bool = False) -> None:
        self._bundle = bundle
        self._backend = backend
        self._low_memory = low_memory
        self._engines: dict[Component, Engine] = {}
        self._weights: dict[Component, Callable[[], Iterable[NewWeight]]] = {}
        self._texts: _Recent[Array] = _Recent(TEXTS_KEPT)
        self._sources: _Recent[Array] = _Recent(SOURCES_KEPT)
        self._calls: _Recent[tuple[Array, Array, BoundCall]] = _Recent(SHAPES_KEPT)
        self._workspaces: _Recent[Workspace] = _Recent(SHAPES_KEPT)

    def text(self, ids: tuple[int, ...], clock: Stopwatch) -> Array:
        """The text encoder's last hidden state `[L, D]` for L token ids."""

        def encode() -> Array:
            engine = self._engine(Component.TEXT_ENCODER, clock)
            with clock.stage("text"):
                table = {tensor.name: tensor for tensor in (*engine.inputs, *engine.outputs)}
                tokens = np.array([ids], table["input_ids"].dtype)
                hidden = table["last_hidden_state"]
                output: Array = np.zeros((1, len(ids), hidden.fixed(2)), hidden.dtype)
                engine.bind({"input_ids": tokens, "last_hidden_state": output})()
            embedding: Array = output[0]
            return embedding

        return self._texts.get(ids, encode)

    def source(self, pixels: NDArray[np.float32], clock: Stopwatch) -> Array:
        """The posterior mean `[C, h, w]` of a picture `[3, H, W]` in [-1, 1], not scaled (parity with the paper)."""

        def encode() -> Array:
            scale = self._bundle.manifest.vae_scale
            _, height, width = pixels.shape
            size = (self._bundle.manifest.latent_channels, height // scale, width // scale)
            return self._image_call(Component.VAE_ENCODER, "encode", pixels, size, clock)

        key = (pixels.shape, blake2b(pixels.data, digest_size=16).digest())
        return self._sources.get(key, encode)

    def decode(self, latents: NDArray[np.float32], clock: Stopwatch) -> NDArray[np.float32]:
        """Pixels `[3, H, W]`, about [-1, 1], of latents `[C, h, w]` as the loop leaves them.

        Raises PixrtError where the decoder's output is not finite.
        """
        scale = self._bundle.manifest.vae_scale
        _, height, width = latents.shape
        scaled = latents / np.float32(self._bundle.manifest.scaling_factor)
        size = (3, height * scale, width * scale)
        pixels = self._image_call(Component.VAE_DECODER, "decode", scaled, size, clock).astype(np.float32)
        if not np.isfinite(pixels).all():
            broken = int(np.size(pixels) - np.isfinite(pixels).sum())
            raise PixrtError(
                f"the decoded picture holds {broken} of {pixels.size} values that are not finite",
                remedy="Use a bundle exported with --precision fp32: some decoders overflow in FP16",
            )
        return pixels

    def workspace(self, batch: int, size: tuple[int, int], clock: Stopwatch) -> Workspace:
        """The loop's arrays for `batch` pictures of h x w latents, kept for the next edit of that shape."""
        engine = self._engine(Component.UNET, clock)
        tokens = self._bundle.manifest.tokenizer.max_length
        return self._workspaces.get((batch, size), lambda: Workspace(engine, batch, size, tokens))

    @contextmanager
    def stage(self, component: Component) -> Iterator[None]:
        """The part of an edit that needs a network; with `low_memory` it is closed after it, also after an error."""
        try:
            yield
        finally:
            if self._low_memory:
                self._close(component)

    def replace(self, component: Component, weights: Callable[[], Iterable[NewWeight]] | None) -> None:
        """From now on open a component with these weights, None for its own; what was computed with others goes."""
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

    def _close(self, component: Component) -> None:
        # Bound calls keep a session alive: they go first.
        if component is Component.UNET:
            self._workspaces.clear()
        else:
            self._calls.clear()
        engine = self._engines.pop(component, None)
        if engine is not None:
            engine.close()

    def _engine(self, component: Component, clock: Stopwatch) -> Engine:
        if component not in self._engines:
            with clock.stage("load"):
                spec = self._bundle.manifest.component(component)
                weights = self._weights[component]() if component in self._weights else ()
                self._engines[component] = self._backend.open(self._bundle.file(component), spec, weights)
        return self._engines[component]

    def _image_call(
        self, component: Component, stage: str, data: Array, out_shape: tuple[int, int, int], clock: Stopwatch
    ) -> Array:
        engine = self._engine(component, clock)
        with clock.stage(stage):
            (source,), (target,) = engine.inputs, engine.outputs

            def bind() -> tuple[Array, Array, BoundCall]:
                given: Array = np.zeros((1, *data.shape), source.dtype)
                result: Array = np.zeros((1, *out_shape), target.dtype)
                return given, result, engine.bind({source.name: given, target.name: result})

            given, result, run = self._calls.get((component, data.shape), bind)
            given[0] = data
            run()
            answer: Array = result[0].copy()
            return answer


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
