"""A session: edits of edits, trials, undo and redo, and the whole chain in the picture that comes out."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pixrt import Cancelled, Editor, OptionError, OutputError, PictureError, Session
from pixrt.pictures.codecs import read_parameters
from pixrt.pictures.images import load_picture, to_image
from shapes import BLUE, INVERT, QUICK, SCENE, Run, pixels

DARK = "make it darker"


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("transparent", [False, True])
def test_a_chain_is_what_it_is_by_hand(editor: Editor, scene: Image.Image, transparent: bool) -> None:
    if transparent:
        scene.putalpha(Image.linear_gradient("L").resize(scene.size))
    before = scene.copy()
    session = editor.session(scene)
    first = session.edit(BLUE, **QUICK)
    second = session.edit(INVERT, steps=3, guidance_scale=3, seed=9)
    third = session.edit(DARK, mask=np.pad(np.ones((20, 20), bool), (0, 44)), steps=2)
    by_hand = editor.edit(scene, BLUE, **QUICK)
    assert same(first.image, by_hand.image)
    by_hand = editor.edit(by_hand.image, INVERT, steps=3, guidance_scale=3, seed=9)
    assert same(second.image, by_hand.image)
    by_hand = editor.edit(by_hand.image, DARK, mask=np.pad(np.ones((20, 20), bool), (0, 44)), steps=2, seed=third.seed)
    assert same(third.image, by_hand.image)
    assert same(session.image, third.image)
    assert third.image.mode == ("RGBA" if transparent else "RGB")
    assert same(scene, before)
    assert session.history == (first, second, third)
    assert (first.history, len(second.history), len(third.history)) == ((), 1, 2)
    # Beside its history a step's parameters are those of the edit by hand.
    assert {name: value for name, value in third.parameters.items() if name != "history"} == by_hand.parameters


def test_what_is_tried_is_not_current_until_it_is_kept(editor: Editor, scene: Image.Image) -> None:
    session = editor.session(scene)
    tried = [session.try_edit(BLUE, steps=1, seed=1, guidance_scale=scale) for scale in (1, 4)]
    assert session.history == ()
    assert same(session.image, scene)
    assert session.keep(tried[1]) is tried[1]
    assert session.history == (tried[1],)
    assert same(session.image, tried[1].image)
    with pytest.raises(OptionError, match="not tried on the session's current picture"):
        session.keep(tried[0])
    session.undo()
    session.keep(tried[0])
    later = session.edit(INVERT, **QUICK)
    assert [step["guidance_scale"] for step in later.history] == [1]
    assert same(later.image, editor.edit(tried[0].image, INVERT, **QUICK).image)


def column(number: int) -> np.ndarray[Any, Any]:
    """A mask that lets one column change, so that the null backend's pictures differ."""
    return np.tile(np.arange(32) == number, (32, 1))


@pytest.fixture(scope="module")
def null_editor() -> Iterator[Editor]:
    with Editor("shapes", backend="null") as opened:
        yield opened


OPERATIONS = st.lists(st.sampled_from(["edit", "edit", "try", "keep", "undo", "undo", "redo", "reset"]), max_size=25)


@given(OPERATIONS)
@example(["edit", "edit", "undo", "undo", "edit", "redo"])
@example(["edit", "try", "edit", "undo", "keep", "redo"])
@settings(max_examples=60)
def test_undo_and_redo(null_editor: Editor, operations: list[str]) -> None:
    """Against the plainest model: a list of the seeds of the steps, and a place in it."""
    original = Image.effect_noise((32, 32), 60).convert("RGB")
    session = null_editor.session(original)
    seeds: list[int] = []
    at, tried = 0, None
    for number, operation in enumerate(operations):
        if operation in ("edit", "keep"):
            if operation == "edit":
                session.edit("x", mask=column(number), steps=1, seed=number)
                seeds[at:], tried = [number], None
            elif tried is not None:
                session.keep(tried)
                seeds[at:], tried = [tried.seed], None
            else:
                continue
            at += 1
        elif operation == "try":
            tried = session.try_edit("x", mask=column(number), steps=1, seed=1000 + number)
        elif operation == "reset":
            session.reset()
            seeds, at, tried = [], 0, None
        elif operation == "undo" and at == 0:
            with pytest.raises(OptionError, match="nothing to undo"):
                session.undo()
        elif operation == "redo" and at == len(seeds):
            with pytest.raises(OptionError, match="nothing to redo"):
                session.redo()
        else:
            at += 1 if operation == "redo" else -1
            picture = session.redo() if operation == "redo" else session.undo()
            assert same(picture, session.image)
            tried = None
        assert [result.seed for result in session.history] == seeds[:at]
        for place, result in enumerate(session.history):
            assert [step["seed"] for step in result.history] == seeds[:place]
        changed = (pixels(session.image) != pixels(original)).any(axis=(0, 2))
        assert set(np.flatnonzero(changed)) == {seed % 1000 for seed in seeds[:at]}


def test_nobody_paints_on_the_sessions_pictures(null_editor: Editor, scene: Image.Image) -> None:
    session = null_editor.session(scene)
    scene.paste((1, 2, 3), (0, 0, 64, 64))
    assert not same(session.image, scene)
    result = session.edit(DARK, **QUICK)
    kept = session.image.copy()
    for painted in (result.image, session.image, session.undo(), session.redo()):
        ImageDraw.Draw(painted).rectangle((0, 0, 63, 63), (9, 9, 9))
    assert same(session.image, kept)
    array = np.full((64, 64, 4), 7, np.uint8)
    session = null_editor.session(array)
    array[:] = 0
    assert np.asarray(session.image).min() == 7


def test_what_fails_leaves_the_session_as_it_was(null_editor: Editor, scene: Image.Image) -> None:
    with pytest.raises(PictureError, match="there is no file"):
        null_editor.session("nowhere.png")
    session = null_editor.session(scene)
    session.edit(DARK, steps=1)
    session.edit(BLUE, steps=1)
    kept = session.undo()
    for error, call in (
        (OptionError, lambda: session.edit(DARK, steps=0)),
        (OptionError, lambda: session.edit([DARK, BLUE])),  # type: ignore[arg-type]
        (OptionError, lambda: session.edit(DARK, seed=[1, 2])),
        (PictureError, lambda: session.edit(DARK, mask=np.ones((4, 4), bool))),
        (Cancelled, lambda: session.edit(DARK, steps=1, on_step=lambda info: False)),
        (PictureError, lambda: session.repeat({"history": 3})),
        (PictureError, lambda: session.repeat({"history": [], "instruction": None})),
        (OptionError, lambda: session.repeat({"instruction": DARK, "steps": 1}, masks=[])),
    ):
        with pytest.raises(error):
            call()
        assert len(session.history) == 1
        assert same(session.image, kept)
    session.redo()
    assert len(session.history) == 2


def test_a_saved_chain_can_be_repeated(editor: Editor, scene: Image.Image, tmp_path: Path) -> None:
    session = editor.session(SCENE)
    # One seed is drawn; a mask is not among the parameters, and is given again.
    mask = Image.new("L", scene.size)
    mask.paste(255, (0, 0, 30, 64))
    session.edit(BLUE, steps=2, guidance_interval=(0.0, 0.6))
    session.edit(INVERT, mask=mask, steps=2)
    result = session.edit(DARK, **QUICK)
    for suffix in ("png", "jpg", "webp"):
        result.save(tmp_path / f"chain.{suffix}")
        found = read_parameters(tmp_path / f"chain.{suffix}")
        assert found == json.loads(json.dumps(result.parameters))
        assert [step["instruction"] for step in found["history"]] == [BLUE, INVERT]
        assert all("history" not in step and isinstance(step["seed"], int) for step in found["history"])
        again = editor.session(SCENE)
        with pytest.raises(OptionError, match="there is no mask"):
            again.repeat(found)
        assert len(again.history) == 1  # what was done before the step that failed
        again.reset()
        assert [step.parameters for step in again.repeat(found, [None, mask, None])] == [
            step.parameters for step in session.history
        ]
        assert same(again.image, result.image)
        # A session that begins with the saved picture has no history: it is the original of what follows.
        assert Session(editor, tmp_path / f"chain.{suffix}").edit(DARK, **QUICK).history == ()


def test_a_history_too_long_to_be_read_again_is_not_written(
    null_editor: Editor, scene: Image.Image, tmp_path: Path
) -> None:
    result = null_editor.edit(scene, DARK, **QUICK)
    step = result.parameters
    long = dataclasses.replace(result, history=(step,) * 200)
    with pytest.raises(OutputError, match="more than the 65000 that EXIF can hold"):
        long.save(tmp_path / "o.jpg")
    long.save(tmp_path / "o.png")
    assert len(read_parameters(tmp_path / "o.png")["history"]) == 200
    with pytest.raises(OutputError, match="more than the 1000000 that are read from a PNG"):
        dataclasses.replace(result, history=(step,) * 3000).save(tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_unknown_parameters_are_told(editor: Editor) -> None:
    """Of any step; the edit is repeated without them."""
    step = {"pixrt": "0", "instruction": BLUE, **QUICK}
    with pytest.warns(UserWarning, match="does not know, and leaves out: 'glow', 'sharpness'"):
        made = editor.session(SCENE).repeat({**step, "sharpness": 1, "history": [{**step, "glow": 2}]})
    assert len(made) == 2


def test_from_repeats_the_last_step_and_says_so(run: Run, editor: Editor, tmp_path: Path) -> None:
    session = editor.session(SCENE)
    session.edit(BLUE, **QUICK)
    session.edit(INVERT, **QUICK).save(tmp_path / "chain.png")
    outcome = run("edit", "scene.png", "--from", "chain.png", "-o", "o.png", "--backend", "ort-cpu", "--threads", 2)
    assert outcome.code == 0
    assert "chain.png was made in 2 edits, one of another: the last one alone is repeated" in outcome.err
    assert "history" not in read_parameters(tmp_path / "o.png")
    with Image.open(tmp_path / "o.png") as image:
        assert same(image, editor.edit(SCENE, INVERT, **QUICK).image)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_decoded_picture_decodes_to_itself(mode: str) -> None:
    noise: Any = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    picture = load_picture(Image.fromarray(noise).convert(mode))
    again = load_picture(to_image(picture))
    for one, other in ((picture.rgb, again.rgb), (picture.straight, again.straight)):
        np.testing.assert_array_equal(one, other)
    assert (picture.alpha is None) == (mode in ("RGB", "L"))
    np.testing.assert_array_equal(picture.alpha, again.alpha)
    assert np.abs(pixels(to_image(picture))).max() > 200
