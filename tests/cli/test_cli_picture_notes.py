"""What the command says of pictures: transparency that a JPEG loses, masks that may mean the opposite, other inputs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shapes import Run

FAST = ("--steps", "1", "--seed", "1")


@pytest.fixture
def strokes(tmp_path: Path) -> Path:
    """White strokes on transparency: the rest is what is transparent."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[20:40, 10:50] = 255
    Image.fromarray(pixels).save(tmp_path / "strokes.png")
    return tmp_path / "strokes.png"


@pytest.fixture
def faded(tmp_path: Path) -> Path:
    with Image.open(tmp_path / "scene.png") as scene:
        image = scene.convert("RGB")
    image.putalpha(Image.linear_gradient("L").resize((64, 64)))
    image.save(tmp_path / "faded.png")
    return tmp_path / "faded.png"


def test_a_jpeg_has_no_transparency(run: Run, faded: Path) -> None:
    assert "JPEG has no transparency" in run("edit", str(faded), "make it red", "-o", "it.jpg", *FAST).err
    assert "transparen" not in run("edit", str(faded), "make it red", "-o", "it.png", *FAST).err
    assert "transparen" not in run("edit", "scene.png", "make it red", "-o", "other.jpg", *FAST).err


def test_a_result_that_is_scaled_up_much(run: Run, tmp_path: Path) -> None:
    with Image.open(tmp_path / "scene.png") as scene:
        scene.resize((192, 160)).save(tmp_path / "large.png")
        scene.resize((128, 96)).save(tmp_path / "twice.png")
    said = run("edit", "large.png", "make it darker", "-o", "it.png", *FAST).err
    assert "edited at 64 x 56 pixels and scaled up 3.0 times, so it is soft: --detail" in said
    assert "soft" not in run("edit", "large.png", "make it darker", "-o", "full.png", "--detail", *FAST).err
    assert "soft" not in run("edit", "twice.png", "make it darker", "-o", "other.png", *FAST).err
    assert "soft" not in run("edit", "large.png", "make it darker", "-o", "last.png", "--resolution", "192", *FAST).err


def test_white_strokes_on_transparency(run: Run, strokes: Path) -> None:
    said = run("edit", "scene.png", "make it red", "-o", "it.png", "--mask", str(strokes), *FAST)
    assert "--invert-mask" in said.err
    turned = run("edit", "scene.png", "make it red", "-o", "turned.png", "--mask", str(strokes), "--invert-mask", *FAST)
    assert "--invert-mask" not in turned.err
    source, plain, other = (
        np.asarray(Image.open(name).convert("RGB")) for name in ("scene.png", "it.png", "turned.png")
    )
    np.testing.assert_array_equal(plain[20:40, 10:50], source[20:40, 10:50])
    outside = np.ones((64, 64), bool)
    outside[20:40, 10:50] = False
    np.testing.assert_array_equal(other[outside], source[outside])
    assert (other[20:40, 10:50] != source[20:40, 10:50]).any()


def test_another_mask_than_the_earlier_one(run: Run, strokes: Path, tmp_path: Path) -> None:
    box = np.zeros((64, 64), np.uint8)
    box[8:30] = 255
    Image.fromarray(box).save(tmp_path / "box.png")
    run("edit", "scene.png", "make it red", "-o", "it.png", "--mask", "box.png", *FAST)
    again = run("edit", "scene.png", "-o", "again.png", "--from", "it.png", "--mask", "box.png")
    assert "another one" not in again.err
    other = run("edit", "scene.png", "-o", "other.png", "--from", "it.png", "--mask", str(strokes))
    assert "the mask is another one than the earlier result was made with" in other.err


def test_a_masked_part_that_was_transparent_is_seen(run: Run, tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 8:24] = 255
    Image.fromarray(mask).save(tmp_path / "box.png")
    run("edit", "half.png", "make the background blue", "-o", "it.png", "--mask", "box.png", "--mask-blur", "0", *FAST)
    made = np.asarray(Image.open(tmp_path / "it.png"))
    assert (made[16:48, 8:24, 3] == 255).all()
    np.testing.assert_array_equal(made[mask == 0], pixels[mask == 0])
