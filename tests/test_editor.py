"""The Python API with the built-in model: pairing, independence of the batch, cancelling, memory of earlier edits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixrt
from pixrt import Cancelled, Editor, OptionError, PictureError
from pixrt.networks import Networks
from pixrt.options import EditOptions

Quick = dict[str, Any]
QUICK: Quick = {"steps": 2, "seed": 5}
BLUE, INVERT = "make the background blue", "invert the colors"


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image).astype(np.int16)


def test_the_instruction_is_carried_out(editor: Editor, scene: Image.Image) -> None:
    """The scene's yellow background becomes blue; what the instruction does not name keeps its colour."""
    result = editor.edit(scene, BLUE, seed=7)
    before, after = pixels(scene), pixels(result.image)
    background = (0, slice(20, 60))  # the top right corner of the scene
    np.testing.assert_allclose(before[background].mean(0), (240, 210, 50), atol=3)
    red, green, blue = after[background].mean(0)
    assert blue > 180
    assert red < 100
    assert green < 120
    red, green, blue = after[14:24, 13:23].mean((0, 1))  # the red circle
    assert red > 1.5 * max(green, blue)


def test_the_result_tells_how_it_was_made(editor: Editor, scene: Image.Image) -> None:
    result = editor.edit(scene, INVERT, **QUICK)
    assert result.image.size == scene.size
    assert result.seed == 5
    assert result.options == EditOptions(
        steps=2, guidance_scale=3.0, image_guidance_scale=1.2, scheduler="ddim", seed=5
    )
    assert result.network_rows == 6
    assert result.backend == "ort-cpu"
    assert "demo" in result.model
    assert "demonstration" in result.notice
    assert result.times.denoise_ms > 0
    assert result.times.total_ms >= result.times.model_ms
    assert result.parameters["instruction"] == INVERT


def test_a_random_seed_repeats_the_edit(editor: Editor, scene: Image.Image) -> None:
    first = editor.edit(scene, INVERT, steps=2)
    again = editor.edit(scene, INVERT, steps=2, seed=first.seed)
    np.testing.assert_array_equal(pixels(first.image), pixels(again.image))
    other = editor.edit(scene, INVERT, steps=2)
    assert other.seed != first.seed
    assert not np.array_equal(pixels(first.image), pixels(other.image))


def test_pictures_and_instructions_are_paired(editor: Editor, scene: Image.Image) -> None:
    """Each result is that of its own picture, instruction and seed alone, also where sizes differ within the call."""
    images = [scene, scene.rotate(90), scene.resize((90, 64)), Image.new("RGB", (64, 64), "red")]
    texts = [BLUE, INVERT, "make it darker", "make it black and white"]
    together = editor.edit(images, texts, steps=3, seed=[1, 2, 3, 4])
    assert [result.index for result in together] == [0, 1, 2, 3]
    for image, text, seed, result in zip(images, texts, [1, 2, 3, 4], together, strict=True):
        assert (result.instruction, result.seed, result.image.size) == (text, seed, image.size)
        alone = editor.edit(image, text, steps=3, seed=seed)
        # Another batch size may take another kernel, which sums in another order.
        assert np.abs(pixels(alone.image) - pixels(result.image)).max() <= 1


def test_one_instruction_for_many_and_one_picture_for_many(editor: Editor, scene: Image.Image) -> None:
    many = editor.edit([scene, scene.rotate(180)], BLUE, **QUICK)
    assert len(many) == 2
    variants = editor.edit(scene, [BLUE, INVERT], **QUICK)
    assert [variant.instruction for variant in variants] == [BLUE, INVERT]
    seeds = editor.edit([scene] * 3, BLUE, steps=2, seed=(1, 2, 1))
    np.testing.assert_array_equal(pixels(seeds[0].image), pixels(seeds[2].image))
    assert not np.array_equal(pixels(seeds[0].image), pixels(seeds[1].image))
    assert isinstance(editor.edit([scene], BLUE, **QUICK), list)


WRONG_CALLS: list[tuple[Any, Any, dict[str, Any]]] = [
    ([], BLUE, {}),
    (["x.png"], [], {}),
    ([1, 2, 3], [BLUE, INVERT], {}),
    (None, None, {}),
    ("examples/scene.png", 5, {}),
    ("examples/scene.png", {BLUE}, {}),
    ("examples/scene.png", [BLUE, None], {}),
    ("examples/scene.png", BLUE, {"seed": [1, 2]}),
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
    with pytest.raises(TypeError, match="guidance"):
        editor.edit(scene, BLUE, guidance=3)  # type: ignore[call-overload]


def test_numpy_numbers_are_numbers(editor: Editor, scene: Image.Image) -> None:
    ours = editor.edit(scene, BLUE, steps=np.int64(2), seed=np.uint32(5), guidance_scale=np.float32(3))  # type: ignore[arg-type]
    np.testing.assert_array_equal(pixels(ours.image), pixels(editor.edit(scene, BLUE, **QUICK).image))
    assert type(ours.parameters["seed"]) is int


def test_steps_are_reported_and_previews_come_closer(editor: Editor, scene: Image.Image) -> None:
    seen: list[tuple[int, int]] = []
    previews: list[Image.Image] = []

    def on_step(info: pixrt.StepInfo) -> None:
        seen.append((info.step, info.total))
        previews.append(info.preview())
        assert info.pictures == (0,)
        assert info.latents.shape == (1, 4, 16, 16)

    result = editor.edit(scene, BLUE, steps=10, seed=7, on_step=on_step)
    assert seen == [(step, 10) for step in range(1, 11)]
    assert previews[0].size == (16, 16)
    # The map is linear and the built-in VAE is not, so colours are coarse; what is where shows.
    small = pixels(result.image.resize((16, 16), Image.Resampling.BOX)).ravel()
    likeness = [float(np.corrcoef(pixels(preview).ravel(), small)[0, 1]) for preview in previews]
    assert likeness[-1] > 0.6
    np.testing.assert_array_less(np.abs(pixels(previews[-1]) - pixels(previews[-2])).mean(), 8)


def test_several_batches_count_through(scene: Image.Image) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []
    with Editor(max_batch=2) as editor:
        editor.edit(
            [scene] * 3, BLUE, steps=2, on_step=lambda info: seen.append((info.step, info.total, info.pictures))
        )
    assert seen == [(1, 4, (0, 1)), (2, 4, (0, 1)), (3, 4, (2,)), (4, 4, (2,))]


def test_false_cancels_within_one_step(editor: Editor, scene: Image.Image) -> None:
    seen: list[int] = []

    def stop_at_three(info: pixrt.StepInfo) -> bool:
        seen.append(info.step)
        return info.step < 3

    with pytest.raises(Cancelled, match="after 3 of 20"):
        editor.edit(scene, BLUE, seed=1, on_step=stop_at_three)
    assert seen == [1, 2, 3]


def test_what_on_step_raises_comes_through_and_leaves_no_trace(editor: Editor, scene: Image.Image) -> None:
    expected = editor.edit(scene, BLUE, scheduler="unipc", steps=4, seed=1)

    def fail(info: pixrt.StepInfo) -> None:
        if info.step == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        editor.edit(scene, INVERT, scheduler="unipc", steps=4, seed=2, on_step=fail)
    again = editor.edit(scene, BLUE, scheduler="unipc", steps=4, seed=1)
    np.testing.assert_array_equal(pixels(expected.image), pixels(again.image))


def test_embeddings_and_source_latents_are_remembered(scene: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = Networks._engine

    def counting(self: Networks, component: Any, clock: Any) -> Any:
        calls.append(str(component))
        return original(self, component, clock)

    monkeypatch.setattr(Networks, "_engine", counting)
    with Editor() as editor:
        editor.edit(scene, BLUE, **QUICK)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (2, 1)  # instruction and empty prompt
        editor.edit(scene, BLUE, steps=2, seed=6)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (2, 1)
        editor.edit(scene, INVERT, **QUICK)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (3, 1)
        editor.edit(scene.rotate(90), INVERT, **QUICK)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (3, 2)


def test_remembering_does_not_change_the_result(scene: Image.Image) -> None:
    with Editor() as fresh:
        expected = fresh.edit(scene, INVERT, **QUICK)
    with Editor() as editor:
        editor.edit(scene, BLUE, steps=3, scheduler="pndm", seed=9)
        editor.edit([scene.rotate(90)] * 3, BLUE, **QUICK)
        again = editor.edit(scene, INVERT, **QUICK)
    np.testing.assert_array_equal(pixels(expected.image), pixels(again.image))


def test_low_memory_and_reopening(scene: Image.Image, editor: Editor) -> None:
    expected = editor.edit(scene, BLUE, **QUICK)
    with Editor(backend="ort-cpu", threads=2, low_memory=True) as low:
        for _ in range(2):
            np.testing.assert_array_equal(pixels(low.edit(scene, BLUE, **QUICK).image), pixels(expected.image))
    with Editor(backend="ort-cpu", threads=2) as closed:
        closed.close()
        np.testing.assert_array_equal(pixels(closed.edit(scene, BLUE, **QUICK).image), pixels(expected.image))


def test_threads_take_turns(editor: Editor, scene: Image.Image) -> None:
    expected = [pixels(editor.edit(scene, BLUE, steps=2, seed=seed).image) for seed in range(4)]
    barrier = threading.Barrier(4)

    def edit(seed: int) -> np.ndarray[Any, Any]:
        barrier.wait()
        return pixels(editor.edit(scene, BLUE, steps=2, seed=seed).image)

    with ThreadPoolExecutor(4) as pool:
        for seed, result in enumerate(pool.map(edit, range(4))):
            np.testing.assert_array_equal(result, expected[seed])


@pytest.mark.parametrize(("mode", "size"), [("exact", (100, 60)), ("fit", (64, 40)), ("floor8", (100, 60))])
def test_resize_modes(editor: Editor, scene: Image.Image, mode: Any, size: tuple[int, int]) -> None:
    result = editor.edit(
        scene.resize((101, 63)) if mode == "floor8" else scene.resize((100, 60)), BLUE, resize=mode, **QUICK
    )
    assert result.image.size == size


def test_the_working_resolution(editor: Editor, scene: Image.Image) -> None:
    assert editor.edit(scene, BLUE, **QUICK).working_size == (64, 64)
    result = editor.edit(scene.resize((120, 80)), BLUE, resolution=96, **QUICK)
    assert (result.working_size, result.image.size) == ((96, 64), (120, 80))


def test_alpha_is_restored(editor: Editor, scene: Image.Image) -> None:
    alpha = Image.linear_gradient("L").resize(scene.size)
    scene.putalpha(alpha)
    result = editor.edit(scene, BLUE, **QUICK)
    assert result.image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(result.image)[:, :, 3], np.asarray(alpha))


def test_truncation_is_reported(editor: Editor, scene: Image.Image) -> None:
    assert editor.edit(scene, BLUE, **QUICK).dropped_tokens == 0
    assert editor.edit(scene, "red " * 100, **QUICK).dropped_tokens == 25


def test_a_negative_prompt_is_another_empty_prompt(editor: Editor, scene: Image.Image) -> None:
    plain = editor.edit(scene, BLUE, **QUICK)
    negative = editor.edit(scene, BLUE, negative_prompt="make the background red", **QUICK)
    assert not np.array_equal(pixels(plain.image), pixels(negative.image))
    # With both scales 1 neither acts.
    alone: Quick = {**QUICK, "guidance_scale": 1, "image_guidance_scale": 1}
    first = editor.edit(scene, BLUE, **alone)
    second = editor.edit(scene, BLUE, negative_prompt="make the background red", **alone)
    np.testing.assert_array_equal(pixels(first.image), pixels(second.image))


def test_a_window_of_guidance_runs_fewer_branches(editor: Editor, scene: Image.Image) -> None:
    result = editor.edit(scene, BLUE, steps=10, seed=1, guidance_interval=(0.0, 0.8))
    assert result.network_rows == 8 * 3 + 2 * 1
    full = editor.edit(scene, BLUE, steps=10, seed=1)
    assert full.network_rows == 30
    assert not np.array_equal(pixels(result.image), pixels(full.image))


def test_a_dry_run_opens_no_network(scene: Image.Image) -> None:
    with Editor() as editor:
        (estimate,) = editor.dry_run(scene, BLUE, steps=20, scheduler="pndm", image_guidance_scale=1.0)
        assert (estimate.network_calls, estimate.network_rows) == (21, 42)
        assert not editor._networks._engines
        with pytest.raises(OptionError):
            editor.dry_run(scene, BLUE, steps=0)


def test_the_null_backend_runs_everything_but_the_networks(scene: Image.Image) -> None:
    with Editor(backend="null") as editor:
        assert editor.edit(scene, BLUE, steps=3).image.size == scene.size


def test_a_bundle_for_another_task(tmp_path: Path) -> None:
    import json
    import shutil

    from pixrt.store import BUILT_IN

    shutil.copytree(BUILT_IN / "demo", tmp_path / "four")
    manifest = json.loads((tmp_path / "four" / "manifest.json").read_text())
    manifest["unet_in_channels"] = 4
    (tmp_path / "four" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OptionError, match="text-to-image"):
        Editor(tmp_path / "four")


@pytest.mark.parametrize("arguments", [{"max_batch": 0}, {"max_batch": 65}, {"max_batch": "2"}, {"backend": "tpu"}])
def test_wrong_editors(arguments: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Editor(**arguments)


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Networks._image_call

    def broken(self: Networks, component: Any, stage: str, *rest: Any) -> Any:
        answer = original(self, component, stage, *rest)
        if stage == "decode":
            answer[0, 0, 0] = np.nan
        return answer

    monkeypatch.setattr(Networks, "_image_call", broken)


@pytest.mark.usefixtures("overflowing")
def test_a_picture_that_is_not_finite_is_an_error(scene: Image.Image) -> None:
    with Editor() as editor, pytest.raises(pixrt.PixrtError, match="1 of 12288 values that are not finite"):
        editor.edit(scene, BLUE, **QUICK)


def test_an_editor_inside_its_own_callback(editor: Editor, scene: Image.Image) -> None:
    def again(info: pixrt.StepInfo) -> None:
        editor.edit(scene, INVERT, **QUICK)

    with pytest.raises(pixrt.PixrtError, match="on_step used the editor"):
        editor.edit(scene, BLUE, on_step=again, **QUICK)
    editor.edit(scene, BLUE, **QUICK)  # and the lock is free again


def test_low_memory_closes_the_network_of_a_cancelled_edit(scene: Image.Image) -> None:
    with Editor(low_memory=True) as editor:
        with pytest.raises(Cancelled):
            editor.edit(scene, BLUE, on_step=lambda info: False, **QUICK)
        assert not editor._networks._engines


def test_a_picture_that_changes_while_it_waits(editor: Editor, scene: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "it.png"
    scene.save(path)
    results = editor.stream([scene.resize((80, 64)), path], BLUE, **QUICK)
    next(results)
    scene.resize((32, 32)).save(path)
    with pytest.raises(PictureError, match="was 64 x 64 a moment ago"):
        next(results)


def test_wrong_calls_fail_at_the_call_of_stream(editor: Editor, scene: Image.Image) -> None:
    with pytest.raises(OptionError):
        editor.stream(scene, BLUE, steps=0)


def test_a_long_list_is_not_held_in_memory(editor: Editor, scene: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    original = pixrt.requests.Request.load  # type: ignore[attr-defined]

    def counting(self: Any) -> Any:
        loaded.append(self.index)
        return original(self)

    monkeypatch.setattr("pixrt.requests.Request.load", counting)
    results = editor.stream([scene] * 20, BLUE, steps=1)
    assert loaded == []
    next(results)
    assert loaded == [0, 1, 2, 3]
