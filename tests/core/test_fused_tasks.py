"""The fused step does every task as the loop does: what is held, where it begins, bundles without a source."""

from typing import Any

import numpy as np
import pytest

from exported import Exports
from fused_edits import assert_same
from pixrt import Editor
from pixrt.options.choices import SCHEDULERS
from shapes import pixels

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_states_that_are_held(exports: Exports, scheduler: Any) -> None:
    """Other masks for the two pictures: what is known is put back by the graph itself."""
    masks = [np.zeros((64, 48), bool), np.zeros((64, 48), bool)]
    masks[0][:32], masks[1][:, 8:24] = True, True
    assert_same(exports.bundle("sd1", "fp32"), scheduler=scheduler, steps=5, mask=masks)


@pytest.mark.parametrize("kind", ["text_to_image", "inpainting"])
def test_every_task(exports: Exports, kind: str) -> None:
    picture, other = np.full((64, 48, 3), 90, np.uint8), np.full((40, 64, 3), 200, np.uint8)
    picture[10:30, 5:20] = (200, 30, 60)
    mask = np.zeros((64, 48), bool)
    mask[16:48] = True
    made = []
    for fused in (False, True):
        with Editor(exports.bundle(kind, "fp32"), backend="ort-cpu", fused_step=fused) as editor:
            common: Any = {"steps": 6, "seed": 4, "scheduler": "dpmpp_2m"}
            results = [editor.inpaint(picture, mask, "a star", strength=s, **common) for s in (0.5, 1.0)]
            if kind == "text_to_image":
                results.append(editor.img2img(picture, "a star", strength=0.6, **common))
                results.append(editor.style(picture, other, "a star", **common))
                results.append(editor.generate("a star", **common))
        made.append([pixels(result.image) for result in results])
    for plain, fused_step in zip(*made, strict=True):
        assert np.abs(plain - fused_step).max() <= 1
