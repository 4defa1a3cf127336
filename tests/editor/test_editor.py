"""The Python API with the model `shapes`: pairing, independence of the batch, memory of earlier edits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixrt
from pixrt import Editor, Job, PixrtError
from pixrt.backends.ort.backend import OrtEngine
from pixrt.core.engines import Engines
from pixrt.options.tasks import EditOptions
from shapes import BLUE, INVERT, QUICK, pixels


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
        steps=2,
        guidance_scale=2.0,
        image_guidance_scale=1.2,
        scheduler="dpmpp_2m",
        seed=5,
        resolution=64,
        branch_interval=1,
        cache_interval=1,
    )
    assert result.network_rows == 6
    assert result.backend == "ort-cpu"
    assert "shapes" in result.model
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
        np.testing.assert_array_equal(pixels(alone.image), pixels(result.image))


def test_one_instruction_for_many_and_one_picture_for_many(editor: Editor, scene: Image.Image) -> None:
    many = editor.edit([scene, scene.rotate(180)], BLUE, **QUICK)
    assert len(many) == 2
    variants = editor.edit(scene, [BLUE, INVERT], **QUICK)
    assert [variant.instruction for variant in variants] == [BLUE, INVERT]
    seeds = editor.edit([scene] * 3, BLUE, steps=2, seed=(1, 2, 1))
    np.testing.assert_array_equal(pixels(seeds[0].image), pixels(seeds[2].image))
    assert not np.array_equal(pixels(seeds[0].image), pixels(seeds[1].image))
    assert isinstance(editor.edit([scene], BLUE, **QUICK), list)
    for one, other in zip(seeds, editor.edit(scene, BLUE, steps=2, seed=[1, 2, 1]), strict=True):
        np.testing.assert_array_equal(pixels(one.image), pixels(other.image))


def test_pictures_with_other_parameters_run_together(editor: Editor, scene: Image.Image) -> None:
    """Scales, seeds and texts may differ within a batch; the results are those of each alone, byte for byte."""
    options = [
        EditOptions(steps=4, seed=1),
        EditOptions(steps=4, seed=2, guidance_scale=5, image_guidance_scale=1),
        EditOptions(steps=4, seed=3, guidance_scale=1, image_guidance_scale=1),
        EditOptions(steps=3, seed=4, negative_prompt="a red circle"),
    ]
    texts = [BLUE, INVERT, BLUE, BLUE]
    jobs = [Job(options=each, image=scene, text=text) for each, text in zip(options, texts, strict=True)]
    together = sorted(editor.run(editor.check(jobs)), key=lambda result: result.index)
    assert [result.options.seed for result in together] == [1, 2, 3, 4]
    for job, result in zip(jobs, together, strict=True):
        (alone,) = editor.run(editor.check([job]))
        np.testing.assert_array_equal(pixels(result.image), pixels(alone.image))
        assert result.parameters == alone.parameters


def test_embeddings_and_source_latents_are_remembered(scene: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = Engines.get

    def counting(self: Engines, component: Any, clock: Any) -> Any:
        calls.append(str(component))
        return original(self, component, clock)

    monkeypatch.setattr(Engines, "get", counting)
    with Editor("shapes") as editor:
        editor.edit(scene, BLUE, **QUICK)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (2, 1)  # instruction and empty prompt
        editor.edit(scene, BLUE, steps=2, seed=6)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (2, 1)
        editor.edit(scene, INVERT, **QUICK)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (3, 1)
        editor.edit(scene.rotate(90), INVERT, **QUICK)
        assert (calls.count("text_encoder"), calls.count("vae_encoder")) == (3, 2)


def test_two_sizes_in_turn_bind_each_network_once(scene: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[str] = []
    original = OrtEngine.bind

    def counting(self: OrtEngine, tensors: Any, held: Any = None) -> Any:
        bound.append(self._spec.file)
        return original(self, tensors, held)

    monkeypatch.setattr(OrtEngine, "bind", counting)
    sizes = [(64, 64), (96, 64), (64, 96)]
    with Editor("shapes", backend="ort-cpu", threads=2) as editor:
        for round_ in range(3):
            for size in sizes:
                editor.edit(scene.resize(size).rotate(90 * round_), BLUE, steps=1, seed=1, resolution=96)
    counts = {name: bound.count(name) for name in set(bound)}
    assert counts == {"text_encoder.onnx": 1, "unet.onnx": 3, "vae_encoder.onnx": 3, "vae_decoder.onnx": 3}


def test_remembering_does_not_change_the_result(scene: Image.Image) -> None:
    with Editor("shapes") as fresh:
        expected = fresh.edit(scene, INVERT, **QUICK)
    with Editor("shapes") as editor:
        editor.edit(scene, BLUE, steps=3, scheduler="pndm", seed=9)
        editor.edit([scene.rotate(90)] * 3, BLUE, **QUICK)
        again = editor.edit(scene, INVERT, **QUICK)
    np.testing.assert_array_equal(pixels(expected.image), pixels(again.image))


def test_low_memory_and_closing(scene: Image.Image, editor: Editor) -> None:
    expected = editor.edit(scene, BLUE, **QUICK)
    with Editor("shapes", backend="ort-cpu", threads=2, low_memory=True) as low:
        for _ in range(2):
            np.testing.assert_array_equal(pixels(low.edit(scene, BLUE, **QUICK).image), pixels(expected.image))
    with Editor("shapes", backend="ort-cpu", threads=2) as closed:
        closed.close()
        with pytest.raises(PixrtError, match="the editor is closed"):
            closed.edit(scene, BLUE, **QUICK)


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
    long = editor.edit(scene, "red " * 100, **QUICK)
    assert long.dropped_tokens == 25
    assert long.notes == ("the last 25 tokens of the instruction did not fit the text encoder: left out",)


def test_a_negative_prompt_is_another_empty_prompt(editor: Editor, scene: Image.Image) -> None:
    plain = editor.edit(scene, BLUE, **QUICK)
    negative = editor.edit(scene, BLUE, negative_prompt="make the background red", **QUICK)
    assert not np.array_equal(pixels(plain.image), pixels(negative.image))
    # With both scales 1 neither acts.
    alone: dict[str, Any] = {**QUICK, "guidance_scale": 1, "image_guidance_scale": 1}
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
    with Editor("shapes") as editor:
        options = EditOptions(steps=20, scheduler="pndm", image_guidance_scale=1.0)
        (estimate,) = editor.estimate(editor.check([Job(options=options, image=scene, text=BLUE)]))
        assert (estimate.network_calls, estimate.network_rows) == (21, 42)
        assert not editor._networks.open


def test_the_null_backend_runs_everything_but_the_networks(scene: Image.Image) -> None:
    with Editor("shapes", backend="null") as editor:
        assert editor.edit(scene, BLUE, steps=3).image.size == scene.size


def test_a_long_list_is_not_held_in_memory(editor: Editor, scene: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    original = pixrt.tasks.requests.Request.prepare  # type: ignore[attr-defined]

    def counting(self: Any, *given: Any) -> Any:
        loaded.append(self.index)
        return original(self, *given)

    monkeypatch.setattr("pixrt.tasks.requests.Request.prepare", counting)
    jobs = [Job(options=EditOptions(steps=1), image=scene, text=BLUE)] * 20
    results = editor.run(editor.check(jobs))
    assert loaded == []
    next(results)
    assert loaded == [0, 1, 2, 3]
