"""Stable Diffusion 1 and 2, and what was made of them: one CLIP text encoder, an AutoencoderKL or a tiny one.

Instruction edits are InstructPix2Pix's (Brooks et al. 2023): the source latents, unscaled, stand beside the noisy ones
in both branches with a picture. Must not import a backend.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.bundles.manifest import Component, Manifest
from pixrt.core.families.family import Encode
from pixrt.maths.guidance import Branch


class StableDiffusion:
    """See `Family`."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._latents = manifest.latents
        self.tokens = manifest.tokenizers[0].max_length
        self.branches = len(Branch)

    def latents_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """See `Family.latents_shape`."""
        width, height = size
        return self._latents.channels, height // self._latents.scale, width // self._latents.scale

    def text(self, ids: tuple[int, ...], encode: Encode) -> Array:
        """The last hidden state, after the final layer norm; the UNet takes no other text."""
        (hidden,) = self._manifest.component(Component.TEXT_ENCODER).outputs
        return encode(Component.TEXT_ENCODER, np.array(ids), (len(ids), hidden.fixed(2)))

    def beside(self, source: Array) -> Mapping[Branch, Array]:
        """Both branches with a picture see its source; the unconditional one sees nothing."""
        return {Branch.TEXT: source, Branch.IMAGE: source}

    def to_loop(self, encoded: Array) -> NDArray[np.float32]:
        """See `Family.to_loop`."""
        return (encoded.astype(np.float32) - np.float32(self._latents.shift)) * np.float32(self._latents.scaling)

    def from_loop(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Family.from_loop`."""
        return latents / np.float32(self._latents.scaling) + np.float32(self._latents.shift)
