"""Both pictures of a pair become one square: scaled and cropped alike, never stretched."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pixrt.errors import PictureError
from pixrt_export.data.fitting import plan_fit
from pixrt_export.data.folders import open_pairs
from stored_data import Sample, picture, write_table

side = st.integers(1, 5000)


@given(width=side, height=side, size=st.integers(1, 1024))
def test_the_crop(width: int, height: int, size: int) -> None:
    """The short side fills the square, the long one sticks out on both sides alike, nothing is stretched."""
    plan = plan_fit((width, height), (width, height), size)
    assert min(plan.scaled) == size
    for scaled, offset, length in zip(plan.scaled, (plan.left, plan.top), (width, height), strict=True):
        assert 0 <= offset <= scaled - size
        assert abs((scaled - size - offset) - offset) <= 1
        assert abs(scaled - length * size / min(width, height)) <= 0.5
    turned = plan_fit(None, (height, width), size)
    assert (turned.scaled, turned.left, turned.top) == (plan.scaled[::-1], plan.top, plan.left)


@given(source=st.tuples(side, side), target=st.tuples(side, side), size=st.integers(1, 1024))
def test_pairs_of_two_sizes(source: tuple[int, int], target: tuple[int, int], size: int) -> None:
    stretch = (source[0] / source[1]) / (target[0] / target[1])
    if 1 / 1.0099 < stretch < 1.0099:
        assert plan_fit(source, target, size) == plan_fit(None, target, size)
    elif not 1 / 1.0101 < stretch < 1.0101:
        with pytest.raises(PictureError, match=f"source is {source[0]} x {source[1]} .*{target[0]} x {target[1]}"):
            plan_fit(source, target, size)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96), (65, 64), (64, 64), (301, 200), (40, 50)])
def test_fitting_is_scaling_then_cropping(width: int, height: int, tmp_path: Path) -> None:
    """Against Pillow's own ImageOps.fit with the same filter, up to rounding at the crop's edge."""
    shown = picture(3, width, height)
    write_table(tmp_path, [Sample("x", shown, shown)])
    pair = open_pairs(tmp_path).load(0, 64)
    np.testing.assert_array_equal(pair.source, pair.target)
    assert pair.target.shape == (64, 64, 3)
    if min(width, height) == 64:  # nothing is scaled: the very pixels
        top, left = (height - 64) // 2, (width - 64) // 2
        np.testing.assert_array_equal(pair.target, shown[top : top + 64, left : left + 64])
    else:
        expected = np.asarray(ImageOps.fit(Image.fromarray(shown), (64, 64), Image.Resampling.LANCZOS))
        assert np.abs(pair.target.astype(int) - expected).mean() < 2


def test_a_smaller_source_shows_the_same_part(tmp_path: Path) -> None:
    shown = picture(3, 192, 128)
    small = np.asarray(Image.fromarray(shown).resize((96, 64), Image.Resampling.LANCZOS))
    write_table(tmp_path, [Sample("x", small, shown)])
    pair = open_pairs(tmp_path).load(0, 64)
    assert pair.source is not None
    assert np.abs(pair.source.astype(int) - pair.target).max() <= 3
