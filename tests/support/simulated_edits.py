"""What tests over the simulated driver share: the pictures they edit, and how results are compared."""

from typing import Any

import numpy as np

SIZE = (64, 48)  # pixels
TEXTS = ["make it winter", "as a drawing"]


def picture(shade: int, width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray[Any, Any]:
    made = np.full((height, width, 3), shade, np.uint8)
    made[height // 4 : height // 2, width // 3 :] = 255 - shade
    return made


def edit(editor: Any, pictures: Any = None, texts: Any = None, **parameters: Any) -> list[np.ndarray[Any, Any]]:
    given = {"steps": 3, "seed": [5, 6], "scheduler": "euler_ancestral"} | parameters
    results = editor.edit(pictures or [picture(60), picture(200)], texts or TEXTS, **given)
    return [np.asarray(result.image).astype(int) for result in results]


def assert_close(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(one - other).max() <= 1
