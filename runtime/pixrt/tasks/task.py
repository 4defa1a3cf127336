"""What a task is: the bundles that it runs with, and what it conditions the loop on.

Must not import a backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.bundles.manifest import Manifest
from pixrt.bundles.manifest import Task as BundleTask
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.core.families.family import Family
from pixrt.maths.guidance import Branch
from pixrt.options.tasks import Options
from pixrt.pictures.masks import Mask, to_latents

Encode = Callable[[NDArray[np.float32]], Array]
"""Pixels `[3, H, W]` in [-1, 1] to the posterior mean `[C, h, w]`, unscaled."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskInputs:
    """What a task conditions one picture on.

    Attributes:
        text, null_text: embeddings `[L, D]` of the text and of the negative prompt.
        pixels, style: working pictures `[3, H, W]` in [-1, 1], if the task takes them.
        mask: `[H, W]` uint8, how far the working picture's pixels may change.
        encode: the VAE's encoder.
    """

    options: Options
    manifest: Manifest
    family: Family
    encode: Encode
    text: Array
    null_text: Array
    pixels: NDArray[np.float32] | None
    mask: Mask | None
    style: NDArray[np.float32] | None

    @property
    def contexts(self) -> Mapping[Branch, Array]:
        """The text, and in the other branches that of the negative prompt."""
        return {Branch.TEXT: self.text, Branch.IMAGE: self.null_text, Branch.UNCOND: self.null_text}

    @property
    def picture(self) -> NDArray[np.float32]:
        """The working picture of a task that takes one."""
        assert self.pixels is not None
        return self.pixels

    def scaled(self, source: Array) -> NDArray[np.float32]:
        """Source latents as the loop has them."""
        return self.family.to_loop(source)

    def beside(self, source: Array) -> Mapping[Branch, Array]:
        """What the network sees of source latents beside the noisy ones, by branch."""
        return self.family.beside(source)

    def outside(self, source: Array | None) -> Anchor | None:
        """The picture itself, of these source latents, where its mask does not let it change; None without a mask."""
        if self.mask is None or source is None:
            return None
        return Anchor(self.scaled(source), 1 - to_latents(self.mask, self.manifest.latents.scale))


@dataclass(frozen=True, slots=True)
class Task:
    """One of them: the bundles that it runs with, and its conditioning. What it takes is its options' to say."""

    bundles: tuple[BundleTask, ...]
    condition: Callable[[TaskInputs], Conditioning]
