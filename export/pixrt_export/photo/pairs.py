"""The world of photographs as a training set: every sample is a function of seed and index. Must not import PyTorch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt_export.data.pairs import Pair
from pixrt_export.photo.crops import Split, crop
from pixrt_export.photo.instructions import ALL_KINDS, Instruction, random_instruction, sentences_of
from pixrt_export.photo.judge import UNSEEN, find_mistake, rms

VERSION = 4  # part of the fingerprint: raise it when the same seed gives other samples
TRIES = 30  # pictures that are drawn for an instruction that would not change them


@dataclass(frozen=True, slots=True)
class PhotoPairs:
    """`count` samples of photographs on one side of the split, with instructions of every kind, or of one.

    Half of the samples are of the kinds in `often`, where there are any; one that is named twice counts twice.
    """

    count: int
    seed: int = 0
    split: Split = "train"
    kind: str | None = None
    often: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """The parameters: with VERSION they say everything."""
        return f"photo-{VERSION}-{self.split}-{self.seed}-{self.count}-{self.kind or 'all'}-{','.join(self.often)}"

    def known(self) -> dict[str, tuple[str, ...]]:
        """The kinds of instructions, and sentences of each."""
        return {kind: sentences_of(kind) for kind in ([self.kind] if self.kind else ALL_KINDS)}

    def ask(self, index: int) -> tuple[Instruction, str]:
        """What is asked in sample `index`, and in which words."""
        rng = np.random.default_rng([self.seed, index, self.split == "train"])
        kind = str(rng.choice(self.often)) if self.often and rng.random() < 0.5 else self.kind
        instruction = random_instruction(rng, kind)
        return instruction, instruction.phrase(rng)

    def instruction(self, index: int) -> str:
        """The text of sample `index`."""
        return self.ask(index)[1]

    def source(self, index: int, size: int) -> NDArray[np.uint8]:
        """The picture of sample `index`, [size, size, 3]: one that the instruction changes, where one is found.

        Few pictures have every colour that can be turned: after some tries their channels are permuted.
        """
        instruction = self.ask(index)[0]
        rng = np.random.default_rng([self.seed, index, self.split == "train", 1])
        for attempt in range(TRIES):
            picture = crop(rng, size, self.split)
            if attempt >= TRIES // 2:
                picture = picture[..., rng.permutation(3)]
            if rms(picture, instruction.apply(picture)) >= UNSEEN:
                break
        return picture

    def load(self, index: int, size: int) -> Pair:
        """Make sample `index` at [size, size, 3]. Raises PackageMissing, PictureError."""
        instruction, text = self.ask(index)
        source = self.source(index, size)
        return Pair(text, source, instruction.apply(source))

    def is_right(self, index: int, picture: NDArray[np.uint8]) -> bool:
        """Whether a picture [size, size, 3] is what sample `index` asks for."""
        return not find_mistake(self.source(index, len(picture)), self.ask(index)[0], picture)
