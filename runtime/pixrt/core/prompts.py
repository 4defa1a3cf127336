"""Texts as a text encoder takes them: pieces of its length, and weights of their tokens. Must not import a backend.

Weights are those of compel (its `EmbeddingsProvider`, with `DownweightMode.REMOVE`): a token's embedding moves away
from that of no text, or towards it, and a weight below 1 also mixes in the text without the words that have it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pixrt.backends.protocol import Array

Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one run of the text encoder gets: `ids` fill its length. Of `weights` there is one for each, or none."""

    ids: Ids
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text, read.

    Attributes:
        versions: the text, then the text without each of its parts whose weight is below 1; each in pieces, with its
            share of the embedding.
        empty: the ids of no text.
        dropped: how many tokens of the text did not fit.
    """

    versions: tuple[tuple[float, tuple[Piece, ...]], ...]
    empty: Ids
    dropped: int = 0

    @property
    def pieces(self) -> int:
        """In how many pieces the text is: its embedding has so many times the text encoder's length."""
        return len(self.versions[0][1])

    def filled(self, pieces: int) -> "Prompt":
        """The same text in so many pieces, empty ones at its end: the branches of a picture need the same length."""
        filler = Piece(self.empty)
        return dataclasses.replace(
            self,
            versions=tuple((share, made + (filler,) * (pieces - len(made))) for share, made in self.versions),
        )


def embed(prompt: Prompt, encode: Callable[[Ids], Array]) -> Array:
    """The embedding `[pieces * L, D]` of a text; `encode` runs the text encoder, ids to `[L, D]`."""
    versions = [
        (share, np.concatenate([_weighted(piece, prompt.empty, encode) for piece in pieces]))
        for share, pieces in prompt.versions
    ]
    if len(versions) == 1:
        return versions[0][1]
    mixed: Array = sum(np.float32(share) * embedding.astype(np.float32) for share, embedding in versions)  # type: ignore[assignment]
    return mixed.astype(versions[0][1].dtype)


def _weighted(piece: Piece, empty: Ids, encode: Callable[[Ids], Array]) -> Array:
    embedding = encode(piece.ids)
    if not piece.weights:
        return embedding
    weights, nothing = np.array(piece.weights, np.float32)[:, None], encode(empty)
    moved = nothing + (embedding.astype(np.float32) - nothing) * weights
    return np.where(weights == 1, embedding, moved).astype(embedding.dtype)  # what has no weight is not rounded
