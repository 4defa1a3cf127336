"""What the core asks of a model family; nothing outside this room knows widths, token counts or channels.

Must not import a backend.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.bundles.manifest import Component, Manifest
from pixrt.maths.guidance import Branch

Encode = Callable[[Component, Array, tuple[int, ...]], Array]
"""Runs a text encoder on one item, and gives its output, of this shape."""


class Family(Protocol):
    """One family, for one bundle."""

    @property
    def tokens(self) -> int:
        """How many rows of text the UNet sees, L."""

    @property
    def branches(self) -> int:
        """The most network evaluations that a step of one picture takes."""

    def latents_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a working picture of this width and height in pixels."""

    def text(self, ids: tuple[int, ...], encode: Encode) -> Array:
        """The embedding `[L, D]` that the UNet sees of token ids."""

    def beside(self, source: Array) -> Mapping[Branch, Array]:
        """What each branch sees beside the latents; one that is absent sees zeros."""

    def to_loop(self, encoded: Array) -> NDArray[np.float32]:
        """What the VAE encodes, as the loop has it."""

    def from_loop(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the loop leaves, as the VAE decodes it."""


def family_of(manifest: Manifest) -> Family:
    """The family of a bundle. A manifest that names another one has been refused when it was read."""
    from pixrt.core.families.stable_diffusion import StableDiffusion

    return {"stable-diffusion": StableDiffusion}[manifest.family](manifest)
