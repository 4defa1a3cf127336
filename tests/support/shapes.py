"""What tests of the model `shapes` share: a scene, instructions that it knows, quick parameters, small helpers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCENE = Path(__file__).parent.parent.parent / "examples" / "scene.png"
BLUE, INVERT = "make the background blue", "invert the colors"
QUICK: dict[str, Any] = {"steps": 2, "seed": 5}


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image).astype(np.int16)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
