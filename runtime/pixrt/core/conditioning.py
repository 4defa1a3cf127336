"""What one picture is conditioned on: all that a task decides. Pure data; must not import a backend."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.maths.guidance import Branch

Latents = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """Clean latents that a picture is held to, or steered to.

    What is held is noised to the state's level after every step, and takes the state's place; with steering it is what
    a step predicts of the clean latents that moves, and the state's own noise stays.

    Attributes:
        latents: float32 `[C, h, w]`, as the loop has them (scaled).
        where: float32 `[1, h, w]`: 1 where that happens, 0 where the latents are free.
    """

    latents: Array
    where: Array


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """One picture's; an array may stand for several branches, and for several pictures.

    Arrays are not changed once they are here: a backend may keep copies of them on its device.

    Attributes:
        contexts: text embeddings `[L, D]`.
        sources: source latents `[C', h, w]`; a branch that is absent sees the null picture, zeros.
        initial: clean latents `[C, h, w]` that the loop begins with, noised to its first level; None is noise alone.
        anchor: what the picture is held to, with the noise of the beginning, or steered to, as far as its steps say.
    """

    contexts: Mapping[Branch, Array]
    sources: Mapping[Branch, Array] = field(default_factory=dict)
    initial: Array | None = None
    anchor: Anchor | None = None
