"""Whether an edit is right: which of all answers a picture is nearest to. Must not import PyTorch."""

import numpy as np
from numpy.typing import NDArray

from pixrt_export.photo.edits import NAMES, Edit
from pixrt_export.photo.instructions import Instruction

UNSEEN = 4.0  # levels of 255, RMS: two answers that are nearer to each other than this are one
UNEDITED = "unedited"


def find_mistake(source: NDArray[np.uint8], asked: Instruction, result: NDArray[np.uint8]) -> str:
    """Name the wrong answer that a result [H, W, 3] is nearest to; empty if the right one is nearest.

    The answers are the right one, the unedited picture, and every other edit at strength 1. One that cannot be told
    from the right one does not count against it.
    """
    right = asked.apply(source)
    error, mistake = rms(result, right), ""
    for name in (UNEDITED, *NAMES):
        if len(asked.edits) == 1 and asked.edits[0].name == name:
            continue
        other = source if name == UNEDITED else Edit(name).apply(source)
        if rms(other, right) >= UNSEEN and (distance := rms(result, other)) < error:
            error, mistake = distance, name
    return mistake


def rms(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Root mean square of the difference, in levels of 255."""
    return float(np.sqrt(np.mean((picture.astype(np.float32) - other.astype(np.float32)) ** 2)))
