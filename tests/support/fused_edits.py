"""The same edits by the loop and by the fused step, and how they are compared."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixrt import Editor
from shapes import pixels

# The loop and the graph do the same sums in FP32 in another order. Over six steps a network may make more of that.
CLOSE = 1e-5


def states(bundle: Path, fused: bool, **parameters: Any) -> tuple[list[Any], list[Any], list[Image.Image]]:
    latents, previews = [], []

    def on_step(info: Any) -> None:
        latents.append(info.latents)
        previews.append(np.asarray(info.preview()))

    with Editor(bundle, backend="ort-cpu", fused_step=fused, loras=parameters.pop("loras", ())) as editor:
        pictures = [np.full((64, 48, 3), shade, np.uint8) for shade in (60, 200)]
        results = editor.edit(pictures, ["make it winter", "as a drawing"], on_step=on_step, seed=[3, 4], **parameters)
    return latents, previews, [result.image for result in results]


def assert_same(bundle: Path, tolerance: float = CLOSE, shades: int = 1, **parameters: Any) -> None:
    plain, fused = states(bundle, False, **parameters), states(bundle, True, **parameters)
    assert len(plain[0]) == len(fused[0]) > 0
    for ours, theirs in zip(fused[0], plain[0], strict=True):
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()
    for ours, theirs in zip(fused[1], plain[1], strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= shades
    for one, other in zip(fused[2], plain[2], strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= shades
