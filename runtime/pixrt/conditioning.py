"""What a batch of edits is conditioned on. Pure data; must not import a backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pixrt.backends.protocol import Array
from pixrt.guidance import Branch


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One array per picture, B of them, for every branch. An array may stand for several pictures or branches.

    Arrays are not changed once they are here: a backend may keep copies of them on its device.

    Attributes:
        contexts: text embeddings `[L, D]`.
        sources: source latents `[C, h, w]`; a branch that is absent sees the null picture, zero latents.
    """

    contexts: Mapping[Branch, Sequence[Array]]
    sources: Mapping[Branch, Sequence[Array]]
