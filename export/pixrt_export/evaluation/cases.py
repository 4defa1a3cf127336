"""Questions of the procedural world: a scene that training never showed, and one instruction. No PyTorch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import OptionError
from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import BASE_KINDS, KINDS, Instruction, View
from pixrt_export.world.pairs import WorldPairs
from pixrt_export.world.scene import Scene

_GLANCE = 64  # pixels at which a scene and its answer are compared


@dataclass(frozen=True, slots=True)
class WorldCase:
    """One question: change the scene as `text`, a phrasing of `instruction`, says."""

    scene: Scene
    instruction: Instruction
    text: str

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return self.instruction.kind

    def source(self, size: int) -> NDArray[np.uint8]:
        """The picture to be edited: [size, size, 3]."""
        return draw(View(self.scene), size)

    def answer(self, size: int) -> NDArray[np.uint8]:
        """The picture that is right: [size, size, 3]."""
        return draw(self.instruction.apply(self.scene), size)


def held_out_cases(count: int, *, seed: int = 0, kind: str | None = None) -> list[WorldCase]:
    """`count` held-out scenes with one instruction each, the kinds taking turns so that each has an equal share.

    The base kinds, or only `kind`. Raises OptionError.
    """
    if count < 1:
        raise OptionError(f"{count} scenes", remedy="Ask for one at least")
    if kind is not None and kind not in KINDS:
        raise OptionError(f"kind is {kind!r}", remedy=f"Choose one of {', '.join(KINDS)}")
    kinds = BASE_KINDS if kind is None else (kind,)
    return [_case(kinds[index % len(kinds)], count, seed, index) for index in range(count)]


def _case(kind: str, count: int, seed: int, index: int) -> WorldCase:
    pairs = WorldPairs(count, seed, split="held-out", kind=kind)
    while True:
        scene, instruction, text = pairs.draw(index)
        assert instruction is not None
        case = WorldCase(scene, instruction, text)
        # A black circle on white is black and white already: no edit would be as right as the edit.
        if not np.array_equal(case.source(_GLANCE), case.answer(_GLANCE)):
            return case
        index += count
