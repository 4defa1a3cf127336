"""The procedural world as a training set: every sample is a function of seed and index. Must not import PyTorch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt_export.data.pairs import Pair
from pixrt_export.world.captions import caption
from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import BASE_KINDS, Instruction, View, random_instruction, sentences_of
from pixrt_export.world.judge import nearest_is_right
from pixrt_export.world.scene import Scene, Split, random_scene_of

VERSION = 1  # part of the fingerprint: raise it when the same seed gives other samples


@dataclass(frozen=True, slots=True)
class WorldPairs:
    """`count` samples of the world, of scenes on one side of the split; a share of them captions for text-to-image.

    `kind` limits the instructions to one kind. No picture of a training set shows a held-out combination, neither as a
    source nor as an answer.
    """

    count: int
    seed: int = 0
    split: Split = "train"
    captions: float = 0.0
    kind: str | None = None

    def __len__(self) -> int:
        return self.count

    def fingerprint(self) -> str:
        """The parameters: with VERSION they say everything."""
        return f"world-{VERSION}-{self.split}-{self.seed}-{self.count}-{self.captions}-{self.kind or 'all'}"

    def known(self) -> dict[str, tuple[str, ...]]:
        """The kinds of instructions, and sentences of each."""
        return {kind: sentences_of(kind) for kind in ([self.kind] if self.kind else BASE_KINDS)}

    def draw(self, index: int) -> tuple[Scene, Instruction | None, str]:
        """Sample `index` before it is drawn: the scene, the instruction (None: a caption), and the text."""
        rng = np.random.default_rng([self.seed, index, self.split == "train"])
        is_caption = rng.random() < self.captions
        while True:
            scene = random_scene_of(self.split, rng)
            if is_caption:
                return scene, None, caption(scene, rng)
            instruction = random_instruction(scene, rng, self.kind)
            answer = instruction.apply(scene).scene
            if self.split == "held-out" or answer.split == "train":
                return scene, instruction, instruction.phrase(rng)

    def instruction(self, index: int) -> str:
        """The text of sample `index`."""
        return self.draw(index)[2]

    def load(self, index: int, size: int) -> Pair:
        """Draw sample `index` at [size, size, 3]."""
        scene, instruction, text = self.draw(index)
        source = draw(View(scene), size)
        if instruction is None:
            return Pair(text, None, source)
        return Pair(text, source, draw(instruction.apply(scene), size))

    def is_right(self, index: int, picture: NDArray[np.uint8]) -> bool:
        """Whether a picture [size, size, 3] is what sample `index`, no caption, asks for."""
        scene, instruction, _ = self.draw(index)
        return nearest_is_right(scene, instruction, picture)
