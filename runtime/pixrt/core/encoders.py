"""The networks around the loop as functions with memory: texts to embeddings, pixels to latents and back.

Embeddings are kept by token ids and source latents by content, so a second edit of the same picture, or with the same
instruction, computes neither again. Must not import a backend.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array, BoundCall
from pixrt.bundles.manifest import Component, Manifest, TensorSpec
from pixrt.core.caches import Recent
from pixrt.core.engines import Engines
from pixrt.core.families.family import Family
from pixrt.core.prompts import Ids, Prompt, embed
from pixrt.core.timing import Stopwatch
from pixrt.core.windows import Windows
from pixrt.errors import PixrtError
from pixrt.maths.tiles import blend

TEXT_BYTES = 64 << 20
SOURCE_BYTES = 128 << 20
CALL_BYTES = 256 << 20  # of the arrays that one network is bound to

_Bound = tuple[Array, Array, BoundCall]


class Encoders:
    """The text encoder and both halves of the VAE of one bundle. Not thread-safe."""

    def __init__(self, manifest: Manifest, family: Family, engines: Engines, windows: Windows) -> None:
        self._manifest = manifest
        self._family = family
        self._engines = engines
        self._windows = windows
        self._texts: Recent[Array] = Recent(TEXT_BYTES, _nbytes)
        self._sources: Recent[Array] = Recent(SOURCE_BYTES, _nbytes)
        self._calls: dict[Component, Recent[_Bound]] = {}
        self._embeddings: Array | None = None

    def text(self, prompt: Prompt, clock: Stopwatch) -> Array:
        """The embedding `[L, D]` that the UNet sees of a text, L rows for each of its pieces."""
        ((_, (first, *rest)), *others) = prompt.versions
        if not (rest or others or first.weights):
            return self._run(first.ids, clock)
        return self._texts.get(prompt, lambda: _fixed(embed(prompt, lambda ids: self._run(ids, clock))))

    def _run(self, ids: Ids, clock: Stopwatch) -> Array:
        """The text encoder's own embedding of ids."""

        def call(component: Component, data: Array, out_shape: tuple[int, ...]) -> Array:
            return self._call(component, "text", data, out_shape, clock)

        return self._texts.get(ids, lambda: _fixed(self._family.text(ids, call)))

    def use_embeddings(self, rows: Array) -> None:
        """From now on give the text encoder these rows, which ids below zero stand for: -1 for the first."""
        self._embeddings = rows
        self.forget(Component.TEXT_ENCODER)
        self.forget_answers(Component.TEXT_ENCODER)

    def source(self, pixels: NDArray[np.float32], clock: Stopwatch, origin: bytes = b"") -> Array:
        """The posterior mean `[C, h, w]` of a picture `[3, H, W]` in [-1, 1], not scaled (parity with the paper).

        `origin` is a digest of all that the pixels were made of; without one they are hashed themselves.
        """

        def encode() -> Array:
            return _fixed(self._on_tiles(Component.VAE_ENCODER, "encode", pixels, clock))

        key = origin or blake2b(pixels.data, digest_size=16).digest()
        return self._sources.get((pixels.shape, key), encode)

    def decode(self, latents: NDArray[np.float32], clock: Stopwatch) -> tuple[NDArray[np.float32], bool]:
        """Pixels `[3, H, W]`, about [-1, 1], of latents `[C, h, w]` as the loop leaves them.

        Some decoders overflow in FP16. If pixels are not finite, the bundle's FP32 decoder has a second try; the second
        of the result tells. Raises PixrtError if there is none, or its pixels are not finite either.
        """
        scaled = self._family.from_loop(latents)
        tries = [Component.VAE_DECODER]
        if Component.VAE_DECODER_FP32 in self._manifest.components and np.isfinite(latents).all():
            tries.append(Component.VAE_DECODER_FP32)
        for component in tries:
            pixels = self._on_tiles(component, "decode", scaled, clock).astype(np.float32, copy=False)
            if np.isfinite(pixels).all():
                return pixels, component is Component.VAE_DECODER_FP32
        broken = int(np.size(pixels) - np.isfinite(pixels).sum())
        raise PixrtError(
            f"the decoded picture holds {broken} of {pixels.size} values that are not finite",
            remedy="Use a bundle exported with --precision fp32",
        )

    @property
    def caches(self) -> Mapping[str, Recent[Any]]:
        """What is kept, by what it is: embeddings of instructions, latents of sources, and calls that are bound."""
        calls = {f"calls_{component}": kept for component, kept in self._calls.items()}
        return {"instructions": self._texts, "sources": self._sources, **calls}

    def forget(self, component: Component) -> None:
        """Let go of what is bound to a network."""
        self._calls.pop(component, None)

    def forget_answers(self, component: Component) -> None:
        """Let go of what a network has computed: it has other weights from now on."""
        if component is Component.TEXT_ENCODER:
            self._texts.clear()
        if component is Component.VAE_ENCODER:
            self._sources.clear()

    def _call(
        self, component: Component, stage: str, data: Array, out_shape: tuple[int, ...], clock: Stopwatch
    ) -> Array:
        """Run a network of one output on one item; what is bound is kept for the next of that shape.

        An input beside the item is the same for all items: it is the embeddings that the text encoder is given.
        """
        engine = self._engines.get(component, clock)
        with clock.stage(stage):
            (source, *beside), (target,) = engine.inputs, engine.outputs

            def bind() -> _Bound:
                given = engine.allocate((1, *data.shape), source.dtype)
                result = engine.allocate((1, *out_shape), target.dtype)
                constant = {each.name: engine.allocate(_numbers(each), each.dtype) for each in beside}
                for array in constant.values():
                    array[...] = 0 if self._embeddings is None else self._embeddings
                return given, result, engine.bind({source.name: given, target.name: result, **constant})

            calls = self._calls.setdefault(
                component, Recent(CALL_BYTES, lambda bound: bound[0].nbytes + bound[1].nbytes)
            )
            given, result, run = calls.get(data.shape, bind)
            given[0] = data
            run()
            answer: Array = result[0].copy()
            return answer

    def _on_tiles(self, component: Component, stage: str, data: Array, clock: Stopwatch) -> Array:
        """The VAE on one picture `[3, H, W]` or its latents `[C, h, w]`, in tiles if it takes no more at once."""
        manifest, encodes = self._manifest, component is Component.VAE_ENCODER
        scale = manifest.latents.scale
        height, width = (side // scale if encodes else side for side in data.shape[1:])
        refit = component in self._engines.refitted
        latents = self._windows.tiling(component, (height, width), (1, len(data)), refit=refit)
        pixels = latents.scaled(scale)
        given, made = (pixels, latents) if encodes else (latents, pixels)
        shape = (manifest.latents.channels if encodes else 3, *made.window)
        return blend(lambda window: self._call(component, stage, window, shape, clock), data, given, made)


def _numbers(tensor: TensorSpec) -> tuple[int, ...]:
    return tuple(tensor.fixed(axis) for axis in range(len(tensor.shape)))


def _nbytes(array: Array) -> int:
    return array.nbytes


def _fixed(values: Array) -> Array:
    """Values that nobody may change any more: a backend may keep them on its device."""
    values.setflags(write=False)
    return values
