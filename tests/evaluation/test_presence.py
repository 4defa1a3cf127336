"""The pixel check finds what a scene shows and nothing else, also where the picture is soft, noisy or tinted."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import View
from pixrt_export.world.presence import UNKNOWN, look, shows, sight_of
from pixrt_export.world.scene import CELLS, COLOURS, SHAPES, Scene, Shape, random_scene

SIZE = 64
CLUTTER = Scene("green", (Shape("circle", "red", 0.25, 0.25, 0.14), Shape("star", "white", 0.75, 0.75, 0.15)))


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]


def picture(scene: Scene, size: int = SIZE) -> NDArray[np.uint8]:
    return draw(View(scene), size)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_in_every_colour_on_every_background(name: str) -> None:
    for background in COLOURS:
        for number, colour in enumerate(colour for colour in COLOURS if colour != background):
            x, y = CELLS[number % len(CELLS)]
            scene = Scene(background, (Shape(name, colour, x, y, 0.125 + 0.03 * (number % 2)),))
            assert look(picture(scene)) == sight_of(scene)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_clean_drawings_are_right(size: int) -> None:
    for scene in scenes(60):
        assert shows(picture(scene, size), scene)


@pytest.mark.parametrize("how", ["noise", "blur", "tint", "contrast", "speckles"])
def test_perturbed_drawings_are_right(how: str) -> None:
    rng = np.random.default_rng(1)
    right = 0
    for scene in scenes(60):
        pixels = picture(scene).astype(np.float64)
        if how == "noise":
            pixels += rng.normal(0, 12, pixels.shape)
        elif how == "blur":
            pixels = ndimage.gaussian_filter(pixels, (1.2, 1.2, 0))
        elif how == "tint":
            pixels += rng.uniform(-15, 15, 3)
        elif how == "contrast":
            pixels = 0.9 * (pixels - 128) + 128
        else:  # single wrong pixels are no shapes
            pixels[tuple(rng.integers(0, SIZE, (2, 20)))] = rng.integers(0, 256, (20, 3))
        right += shows(pixels.clip(0, 255).astype(np.uint8), scene)
    assert right >= 59


def test_another_scene_is_wrong() -> None:
    drawn = scenes(60)
    for one, other in itertools.pairwise(drawn):
        assert shows(picture(one), other) == (one.combination == other.combination)


@pytest.mark.parametrize(
    "caption",
    [
        replace(CLUTTER, background="blue"),
        replace(CLUTTER, shapes=CLUTTER.shapes[:1]),
        replace(CLUTTER, shapes=(*CLUTTER.shapes, Shape("square", "blue", 0.75, 0.25, 0.14))),
        replace(CLUTTER, shapes=(replace(CLUTTER.shapes[0], colour="white"), CLUTTER.shapes[1])),
        replace(CLUTTER, shapes=(replace(CLUTTER.shapes[0], name="square"), CLUTTER.shapes[1])),
        # The colours of both shapes the other way round.
        replace(
            CLUTTER, shapes=tuple(replace(s, colour={"red": "white", "white": "red"}[s.colour]) for s in CLUTTER.shapes)
        ),
    ],
)
def test_one_thing_wrong_is_wrong(caption: Scene) -> None:
    assert shows(picture(CLUTTER), CLUTTER)
    assert not shows(picture(CLUTTER), caption)


def test_where_and_how_large_does_not_matter() -> None:
    moved = (Shape("circle", "red", 0.7, 0.3, 0.2), Shape("star", "white", 0.3, 0.7, 0.22))
    assert shows(picture(replace(CLUTTER, shapes=moved)), CLUTTER)


def test_what_is_no_shape_is_unknown() -> None:
    pixels = picture(Scene("green", ()))
    assert str(look(pixels)) == "nothing on green"
    stripe = pixels.copy()
    stripe[10:50, 20:26] = COLOURS["red"]
    assert look(stripe).shapes == ((UNKNOWN, "red"),)
    assert str(look(stripe)) == "red unknown on green"
    circle = replace(CLUTTER, shapes=CLUTTER.shapes[:1])
    halved = picture(circle).copy()
    inside = (halved == COLOURS["red"]).all(axis=-1)
    inside[:, :16] = False
    halved[inside] = COLOURS["blue"]
    assert look(halved).shapes == ((UNKNOWN, UNKNOWN),)
    assert not shows(halved, circle)


def test_twice_the_same_shape_is_wrong() -> None:
    once = Scene("green", (Shape("circle", "red", 0.25, 0.25, 0.14),))
    twice = replace(once, shapes=(*once.shapes, replace(once.shapes[0], x=0.75)))
    assert not shows(picture(twice), once)
