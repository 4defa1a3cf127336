"""The procedural world: its split, its right answers, its texts."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pixrt.bundles.instructions import fault_of_instructions, is_unknown
from pixrt_export.world.drawing import draw, silhouette
from pixrt_export.world.instructions import (
    BASE_KINDS,
    PHRASES,
    Edit,
    Instruction,
    View,
    random_instruction,
    single_instructions,
)
from pixrt_export.world.judge import answers, nearest, nearest_is_right
from pixrt_export.world.pairs import WorldPairs
from pixrt_export.world.scene import COLOURS, Scene, Shape, random_scene

SEEDS = st.integers(0, 2**32)
CIRCLE = Shape("circle", "red", 0.25, 0.25, 0.15)
SQUARE = Shape("square", "blue", 0.75, 0.75, 0.15)
SCENE = Scene("green", (CIRCLE, SQUARE))


def apply(name: str, shape: str = "", value: str = "") -> Scene:
    return Instruction((Edit(name, shape, value),)).apply(SCENE).scene


def pictures_of(pairs: WorldPairs, count: int) -> set[str]:
    """The combinations that any picture of the set shows, as a source or as an answer."""
    shown = set()
    for index in range(count):
        scene, instruction, _ = pairs.draw(index)
        shown.add(scene.combination)
        if instruction is not None:
            shown.add(instruction.apply(scene).scene.combination)
    return shown


def test_no_held_out_combination_is_seen_in_training() -> None:
    seen = pictures_of(WorldPairs(4000, seed=0, captions=0.2), 4000)
    held_out = WorldPairs(600, seed=0, split="held-out")
    scenes = {held_out.draw(index)[0].combination for index in range(600)}
    assert len(scenes) > 300  # pictures of one shape repeat: there are few combinations
    assert not scenes & seen
    # Whatever the seed: the split is a property of the scene.
    assert not scenes & pictures_of(WorldPairs(2000, seed=99), 2000)


def test_about_a_tenth_of_the_scenes_is_held_out() -> None:
    rng = np.random.default_rng(0)
    held_out = np.mean([random_scene(rng).split == "held-out" for _ in range(4000)])
    assert abs(held_out - 0.1) < 0.02  # four standard deviations


@given(SEEDS)
def test_a_sample_depends_on_its_index_alone(seed: int) -> None:
    pairs, longer = WorldPairs(10, seed, captions=0.3), WorldPairs(1000, seed, captions=0.3)
    first, again = pairs.load(7, 32), longer.load(7, 32)
    assert first.instruction == again.instruction == pairs.instruction(7)
    assert np.array_equal(first.target, again.target)
    assert (first.source is None) == (again.source is None)


def test_the_fingerprint_tells_sets_apart() -> None:
    sets = [
        WorldPairs(10),
        WorldPairs(11),
        WorldPairs(10, 1),
        WorldPairs(10, split="held-out"),
        WorldPairs(10, kind="border"),
    ]
    assert len({pairs.fingerprint() for pairs in sets}) == len(sets)


def test_the_share_of_captions() -> None:
    pairs = WorldPairs(2000, captions=0.12)
    share = np.mean([pairs.draw(index)[1] is None for index in range(2000)])
    assert abs(share - 0.12) < 0.03


def test_what_is_known_has_every_word() -> None:
    pairs = WorldPairs(2000)
    known = pairs.known()
    assert tuple(known) == BASE_KINDS
    assert not fault_of_instructions(known)
    words = {word for sentences in known.values() for sentence in sentences for word in sentence.split()}
    assert words == {word for index in range(2000) for word in pairs.instruction(index).split()}
    assert not any(is_unknown(pairs.instruction(index), known) for index in range(2000))
    assert WorldPairs(1, kind="border").known() == {"border": PHRASES["border"]}


def test_right_answers_of_shapes() -> None:
    assert apply("recolor", "circle", "pink").shapes == (Shape("circle", "pink", 0.25, 0.25, 0.15), SQUARE)
    assert apply("background", value="black") == Scene("black", (CIRCLE, SQUARE))
    assert apply("remove", "circle").shapes == (SQUARE,)
    assert apply("replace", "square", "star").shapes[1] == Shape("star", "blue", 0.75, 0.75, 0.15)
    assert apply("bigger", "circle").shapes[0].radius == pytest.approx(0.21)
    assert apply("smaller", "circle").shapes[0].radius == pytest.approx(0.09)


def test_right_answers_of_pictures() -> None:
    plain = draw(View(SCENE), 64)
    assert np.array_equal(draw(View(SCENE, ("invert",)), 64), 255 - plain)
    assert np.array_equal(draw(View(SCENE, ("darken",)), 64), plain // 2)
    grey = draw(View(SCENE, ("grayscale",)), 64)
    luma = plain @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(grey - luma[..., None]).max() <= 1
    framed = draw(View(SCENE, ("border",)), 64)
    assert (framed[:4] == 255).all()
    assert (framed[:, -4:] == 255).all()
    assert np.array_equal(framed[4:-4, 4:-4], plain[4:-4, 4:-4])


def test_shapes_are_drawn_where_and_as_large_as_said() -> None:
    """Areas by geometry: pi r^2, the square of side 1.8 r, the equilateral triangle and the star of radius 1.1 r."""
    r = 0.2 * 256
    star = 10 * 0.5 * (1.1 * r) * (0.55 * r) * np.sin(np.pi / 5)
    areas = {
        "circle": np.pi * r**2,
        "square": (1.8 * r) ** 2,
        "triangle": 3 * 3**0.5 / 4 * (1.1 * r) ** 2,
        "star": star,
    }
    for name, area in areas.items():
        mask = silhouette(Shape(name, "red", 0.5, 0.5, 0.2), 256)
        assert mask.sum() == pytest.approx(area, rel=0.02)
        rows, columns = np.nonzero(mask)
        assert abs(columns.mean() - 127.5) < 1
        picture = draw(View(Scene("white", (Shape(name, "red", 0.5, 0.5, 0.2),))), 256)
        assert tuple(picture[round(rows.mean()), round(columns.mean())]) == COLOURS["red"]


GREYS = {"black", "white"}


def is_grey_already(scene: Scene, instruction: Instruction) -> bool:
    """One scene in some hundred: there an answer is what it is asked of."""
    asked = [edit.name for edit in instruction.edits]
    return asked == ["grayscale"] and {scene.background, *(shape.colour for shape in scene.shapes)} <= GREYS


@given(SEEDS, st.sampled_from(BASE_KINDS))
def test_an_instruction_of_every_kind_changes_the_picture(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    instruction = random_instruction(scene, rng, kind)
    assert instruction.kind == kind
    assume(not is_grey_already(scene, instruction))
    assert (draw(instruction.apply(scene), 64) != draw(View(scene), 64)).any()
    text = instruction.phrase(rng)
    assert "{" not in text
    for edit in instruction.edits:
        assert edit.shape in text
        assert edit.value in text


@given(SEEDS)
def test_compound_edits_may_be_done_in_either_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    both = random_instruction(scene, rng, "compound")
    assert both.apply(scene) == Instruction(both.edits[::-1]).apply(scene)


@given(SEEDS)
def test_no_shape_ever_has_the_colour_of_its_background(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    for instruction in [*single_instructions(scene), random_instruction(scene, rng, "compound")]:
        after = instruction.apply(scene).scene
        assert after.background not in {shape.colour for shape in after.shapes}
        assert len({shape.name for shape in after.shapes}) == len(after.shapes)


@settings(max_examples=25)
@example(seed=10680347)
@given(SEEDS)
def test_the_right_answer_is_judged_right_and_every_other_answer_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    asked = random_instruction(scene, rng)
    assume(not is_grey_already(scene, asked))
    kinds, pictures = answers(scene, asked, 64)
    assert kinds[:2] == ["asked", "unedited"]
    assert nearest_is_right(scene, asked, pictures[0])
    assert 0 not in [nearest(picture, pictures) for picture in pictures[1:]]
    # Blurred and noisy, as a network would give it, it is still right.
    blurred = np.asarray(Image.fromarray(pictures[0]).resize((32, 32)).resize((64, 64)))
    noisy = np.clip(blurred + rng.normal(0, 4, blurred.shape), 0, 255).astype(np.uint8)
    assert nearest_is_right(scene, asked, noisy)
