"""Whether an edit is right: which of all right answers a picture is nearest to. Must not import PyTorch."""

import numpy as np
from numpy.typing import NDArray

from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import Instruction, View, single_instructions
from pixrt_export.world.scene import Scene


def answers(scene: Scene, asked: Instruction, size: int) -> tuple[list[str], NDArray[np.uint8]]:
    """What a picture may have become: the asked answer first, then the unedited scene, then all other single edits.

    Returns the kind of each ("asked", "unedited", or a kind of instruction) and the pictures, uint8 [N, size, size, 3].
    """
    others = [instruction for instruction in single_instructions(scene) if instruction != asked]
    views = [asked.apply(scene), View(scene), *(instruction.apply(scene) for instruction in others)]
    kinds = ["asked", "unedited", *(instruction.kind for instruction in others)]
    return kinds, np.stack([draw(view, size) for view in views])


def nearest(picture: NDArray[np.uint8], candidates: NDArray[np.uint8]) -> int:
    """The candidate [N, H, W, 3] with the least mean squared error to the picture [H, W, 3]."""
    error = (candidates.astype(np.float32) - picture.astype(np.float32)) ** 2
    return int(error.mean(axis=(1, 2, 3)).argmin())


def nearest_is_right(scene: Scene, asked: Instruction | None, picture: NDArray[np.uint8]) -> bool:
    """Whether the picture is nearest to the asked answer."""
    assert asked is not None
    return nearest(picture, answers(scene, asked, len(picture))[1]) == 0
