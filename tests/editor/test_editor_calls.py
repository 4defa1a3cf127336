"""Calls of the Python API: steps reported, edits stopped, wrong arguments named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixrt
from pixrt import Cancelled, EditOptions, Editor, Job, OptionError, PictureError
from pixrt.core.encoders import Encoders
from shapes import BLUE, INVERT, QUICK, pixels

WRONG_CALLS: list[tuple[Any, Any, dict[str, Any]]] = [
    ([], BLUE, {}),
    (["x.png"], [], {}),
    ([1, 2, 3], [BLUE, INVERT], {}),
    (None, None, {}),
    ("examples/scene.png", 5, {}),
    ("examples/scene.png", {BLUE}, {}),
    ("examples/scene.png", [BLUE, None], {}),
    (["examples/scene.png"] * 3, BLUE, {"seed": [1, 2]}),
    ("examples/scene.png", BLUE, {"seed": []}),
    ("examples/scene.png", BLUE, {"steps": None, "scheduler": "heun"}),
    ("examples/scene.png", BLUE, {"resolution": 48, "resize": "floor8"}),
    ("examples/scene.png", BLUE, {"steps": 1000, "scheduler": "lcm"}),
    ("examples/scene.png", BLUE, {"eta": 0.5, "scheduler": "euler"}),
]


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_wrong_calls(editor: Editor, call: tuple[Any, Any, dict[str, Any]]) -> None:
    image, instruction, parameters = call
    with pytest.raises((OptionError, PictureError)) as caught:
        editor.edit(image, instruction, **parameters)
    assert caught.value.remedy


def test_an_unknown_parameter(editor: Editor, scene: Image.Image) -> None:
    with pytest.raises(OptionError, match="edit has no parameter 'guidance'"):
        editor.edit(scene, BLUE, guidance=3)  # type: ignore[call-overload]


def test_numpy_numbers_are_numbers(editor: Editor, scene: Image.Image) -> None:
    ours = editor.edit(scene, BLUE, steps=np.int64(2), seed=np.uint32(5), guidance_scale=np.float32(2))  # type: ignore[arg-type]
    np.testing.assert_array_equal(pixels(ours.image), pixels(editor.edit(scene, BLUE, **QUICK).image))
    assert type(ours.parameters["seed"]) is int


def test_steps_are_reported_and_previews_come_closer(editor: Editor, scene: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    previews: list[Image.Image] = []

    def on_step(info: pixrt.StepInfo) -> None:
        seen.append((info.step, info.of))
        previews.append(info.preview())
        assert info.index == 0
        assert info.latents.shape == (4, 16, 16)

    result = editor.edit(scene, BLUE, steps=10, seed=7, on_step=on_step)
    assert seen == [(step, 10) for step in range(1, 11)]
    assert previews[0].size == (16, 16)
    # The map is linear and the built-in VAE is not, so colours are coarse; what is where shows.
    small = pixels(result.image.resize((16, 16), Image.Resampling.BOX)).ravel()
    likeness = [float(np.corrcoef(pixels(preview).ravel(), small)[0, 1]) for preview in previews]
    assert likeness[-1] > 0.6
    np.testing.assert_array_less(np.abs(pixels(previews[-1]) - pixels(previews[-2])).mean(), 8)


def test_every_picture_counts_its_own_steps(scene: Image.Image) -> None:
    """The third joins when one of the first two has ended."""
    seen: list[tuple[int, int, int]] = []
    jobs = [Job(options=EditOptions(steps=n, seed=1), image=scene, text=BLUE) for n in (1, 3, 2)]
    with Editor("shapes", max_batch=2) as editor:
        list(editor.run(editor.check(jobs), on_step=lambda info: seen.append((info.index, info.step, info.of))))
    assert seen == [(0, 1, 1), (1, 1, 3), (1, 2, 3), (2, 1, 2), (1, 3, 3), (2, 2, 2)]


def test_false_cancels_within_one_step(editor: Editor, scene: Image.Image) -> None:
    seen: list[int] = []

    def stop_at_three(info: pixrt.StepInfo) -> bool:
        seen.append(info.step)
        return info.step < 3

    with pytest.raises(Cancelled, match="after 3 of 20"):
        editor.edit(scene, BLUE, seed=1, on_step=stop_at_three)
    assert seen == [1, 2, 3]


def test_numpys_false_stops_too_and_nothing_else_does(editor: Editor, scene: Image.Image) -> None:
    with pytest.raises(Cancelled, match="after 1 of 2"):
        editor.edit(scene, BLUE, on_step=lambda info: np.bool_(False), **QUICK)
    for answer in (None, 0, np.True_, True, "", np.int64(0)):
        editor.edit(scene, BLUE, on_step=lambda info, answer=answer: answer, **QUICK)


def test_what_on_step_raises_comes_through_and_leaves_no_trace(editor: Editor, scene: Image.Image) -> None:
    expected = editor.edit(scene, BLUE, scheduler="unipc", steps=4, seed=1)

    def fail(info: pixrt.StepInfo) -> None:
        if info.step == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        editor.edit(scene, INVERT, scheduler="unipc", steps=4, seed=2, on_step=fail)
    again = editor.edit(scene, BLUE, scheduler="unipc", steps=4, seed=1)
    np.testing.assert_array_equal(pixels(expected.image), pixels(again.image))


def test_a_bundle_for_another_task(tmp_path: Path) -> None:
    import json
    import shutil

    from pixrt.bundles.store import BUILT_IN

    shutil.copytree(BUILT_IN / "shapes", tmp_path / "four")
    manifest = json.loads((tmp_path / "four" / "manifest.json").read_text())
    manifest["unet_in_channels"] = 4
    (tmp_path / "four" / "manifest.json").write_text(json.dumps(manifest))
    with (
        Editor(tmp_path / "four", backend="null") as editor,
        pytest.raises(OptionError, match="text-to-image") as caught,
    ):
        editor.edit("examples/scene.png", BLUE)
    assert "8 input channels" in caught.value.remedy


@pytest.mark.parametrize("arguments", [{"max_batch": 0}, {"max_batch": 65}, {"max_batch": "2"}, {"backend": "tpu"}])
def test_wrong_editors(arguments: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Editor(**arguments)


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Encoders._call

    def broken(self: Encoders, component: Any, stage: str, *rest: Any) -> Any:
        answer = original(self, component, stage, *rest)
        if stage == "decode":
            answer[0, 0, 0] = np.nan
        return answer

    monkeypatch.setattr(Encoders, "_call", broken)


@pytest.mark.usefixtures("overflowing")
def test_a_picture_that_is_not_finite_is_an_error(scene: Image.Image) -> None:
    with Editor("shapes") as editor, pytest.raises(pixrt.PixrtError, match="1 of 12288 values that are not finite"):
        editor.edit(scene, BLUE, **QUICK)


def test_an_editor_inside_its_own_callback(editor: Editor, scene: Image.Image) -> None:
    """Between two steps nobody holds the networks: a callback may edit with them, and changes nothing."""
    expected = [pixels(editor.edit(scene, text, **QUICK).image) for text in (BLUE, INVERT)]
    inside: list[Any] = []

    def again(info: pixrt.StepInfo) -> None:
        inside.append(pixels(editor.edit(scene, INVERT, **QUICK).image))

    np.testing.assert_array_equal(pixels(editor.edit(scene, BLUE, on_step=again, **QUICK).image), expected[0])
    assert len(inside) == 2
    for picture in inside:
        np.testing.assert_array_equal(picture, expected[1])


def test_low_memory_closes_the_network_of_a_cancelled_edit(scene: Image.Image) -> None:
    with Editor("shapes", low_memory=True) as editor:
        with pytest.raises(Cancelled):
            editor.edit(scene, BLUE, on_step=lambda info: False, **QUICK)
        assert not editor._networks.open


def test_a_picture_that_changes_while_it_waits(editor: Editor, scene: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "it.png"
    scene.save(path)
    pictures: list[Any] = [scene.resize((80, 64)), path]
    results = editor.run(editor.check([Job(options=EditOptions(**QUICK), image=each, text=BLUE) for each in pictures]))
    next(results)
    scene.resize((32, 32)).save(path)
    with pytest.raises(PictureError, match="was 64 x 64 before"):
        next(results)


def test_a_schedule_that_there_is_not_fails_at_the_call(editor: Editor, scene: Image.Image) -> None:
    requests = editor.check([Job(options=EditOptions(steps=60, scheduler="lcm"), image=scene, text=BLUE)])
    with pytest.raises(OptionError):
        editor.run(requests)
