"""What a training set is: pairs that can be loaded one at a time. Must not import PyTorch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample: `source` and what `instruction` makes of it, `target`, both uint8 [H, W, 3].

    A sample of text-to-image has no source, and its instruction is a caption.
    """

    instruction: str
    source: NDArray[np.uint8] | None
    target: NDArray[np.uint8]


class PairSet(Protocol):
    """A training set: of a known length, with samples that depend on nothing but their index."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """Name the content: two sets of the same fingerprint have the same samples at the same indices."""
        ...

    def instruction(self, index: int) -> str:
        """The text of sample `index`, without its pictures."""
        ...

    def load(self, index: int, size: int) -> Pair:
        """Load sample `index`, its pictures fitted to [size, size, 3]. Raises PictureError."""
        ...


class JudgedPairs(PairSet, Protocol):
    """A set that knows every right answer, and everything that can be asked."""

    def known(self) -> dict[str, tuple[str, ...]]:
        """The kinds of its instructions, and sentences of each that together have every word that matters."""
        ...

    def is_right(self, index: int, picture: NDArray[np.uint8]) -> bool:
        """Whether a picture [size, size, 3] is nearer to what sample `index` asks for than to any other answer."""
        ...


def telling(sentences: Iterable[str]) -> tuple[str, ...]:
    """Those of the sentences that have a word which none before them has."""
    seen: set[str] = set()
    kept = []
    for sentence in sentences:
        words = set(sentence.split())
        if not words <= seen:
            kept.append(sentence)
            seen |= words
    return tuple(kept)
