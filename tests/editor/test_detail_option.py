"""`detail` through the whole of an edit: the size comes back with the picture's own detail, also in a mask."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixrt import Editor, OptionError
from pixrt.options.tasks import EditOptions, StyleOptions
from shapes import SCENE

INSTRUCTION = "make it black and white"


@pytest.fixture(scope="module")
def large() -> Image.Image:
    """The scene in 256 pixels, with stripes of a pixel that no picture of 64 can have."""
    with Image.open(SCENE) as image:
        scene = np.asarray(image.convert("RGB").resize((256, 192), Image.Resampling.BICUBIC)).astype(int)
    scene[:, ::2] += 12
    scene[:, 1::2] -= 12
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image.convert("RGB")).astype(np.int64)


def stripes(image: Image.Image) -> float:
    """How far neighbours in a row are apart, half of it, in levels."""
    return float(np.abs(np.diff(pixels(image), axis=1)).mean() / 2)


def test_the_detail_comes_back(large: Image.Image) -> None:
    with Editor("shapes", backend="ort-cpu") as editor:
        options = {"seed": 2, "steps": 8}
        plain, kept = (editor.edit(large, INSTRUCTION, detail=each, **options).image for each in (False, True))
        assert plain.size == kept.size == large.size
        assert stripes(plain) < 1
        assert stripes(kept) > 6  # of the 12 of the picture
        # What the small picture can have is the same.
        small = [np.asarray(each.resize((64, 48), Image.Resampling.BOX)).astype(int) for each in (plain, kept)]
        assert np.abs(small[0] - small[1]).mean() < 2
        mask = np.zeros((192, 256), np.uint8)
        mask[40:120, 60:200] = 255
        for padding in (None, 8):
            result = editor.edit(large, INSTRUCTION, mask=mask, detail=True, mask_padding=padding, **options).image
            np.testing.assert_array_equal(pixels(result)[mask == 0], pixels(large)[mask == 0])
            assert (pixels(result) != pixels(large)).any()
        # Nothing was scaled down: nothing to carry.
        same = [
            editor.edit(large.resize((64, 48)), INSTRUCTION, detail=each, **options).image for each in (False, True)
        ]
        np.testing.assert_array_equal(pixels(same[0]), pixels(same[1]))


@pytest.mark.parametrize("kind", [EditOptions, StyleOptions])
@pytest.mark.parametrize("resize", ["fit", "floor8"])
def test_only_where_the_size_comes_back(kind: type, resize: str) -> None:
    with pytest.raises(OptionError, match=f"detail is given, and resize is {resize}"):
        kind(detail=True, resize=resize)
