"""LoRA at run time with the model `shapes`: what is replaced, what is opened again, and the flag."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loras import ATTENTION, CONVS, TEXT, lora, write
from pixrt import Editor, LoraError
from pixrt.backends.ort.backend import OrtBackend
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from shapes import BLUE, INVERT, QUICK, Run, pixels


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "style.safetensors", lora([*ATTENTION, *CONVS]))


def edit(editor: Editor, scene: Image.Image) -> Any:
    return pixels(editor.edit(scene, BLUE, **QUICK).image)


def test_nothing_is_left_of_an_earlier_lora(editor: Editor, file: Path, scene: Image.Image, tmp_path: Path) -> None:
    plain = edit(editor, scene)
    other = write(tmp_path / "other.safetensors", lora(ATTENTION[:8], seed=1) | lora(TEXT, part="text_encoder", seed=2))
    with Editor("shapes", backend="ort-cpu", threads=2, loras=[file]) as changing:
        first = edit(changing, scene)
        changing.set_loras([other, (file, 0.5)])
        second = edit(changing, scene)
        changing.set_loras([file])
        np.testing.assert_array_equal(edit(changing, scene), first)
        changing.set_loras([])
        np.testing.assert_array_equal(edit(changing, scene), plain)
        changing.set_loras([other, (file, 0.5)])
        np.testing.assert_array_equal(edit(changing, scene), second)
    assert not np.array_equal(plain, first)
    assert not np.array_equal(first, second)
    with Editor("shapes", backend="ort-cpu", threads=2, loras=[other, (file, 0.5)], low_memory=True) as low:
        for _ in range(2):
            np.testing.assert_array_equal(edit(low, scene), second)


def test_a_scale_of_zero_changes_nothing(editor: Editor, file: Path, scene: Image.Image) -> None:
    with Editor("shapes", backend="ort-cpu", threads=2, loras=[(file, 0)]) as other:
        np.testing.assert_array_equal(edit(other, scene), edit(editor, scene))


def test_only_what_a_lora_touches_is_opened_again(
    scene: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    original = OrtBackend.open

    def counting(self: OrtBackend, bundle: Bundle, component: Component, *arguments: Any) -> Any:
        opened.append(component)
        return original(self, bundle, component, *arguments)

    monkeypatch.setattr(OrtBackend, "open", counting)
    unet = write(tmp_path / "unet.safetensors", lora(ATTENTION[:2]))
    text = write(tmp_path / "text.safetensors", lora(TEXT[:2], part="text_encoder"))
    with Editor("shapes", backend="ort-cpu", threads=2) as editor:
        edit(editor, scene)
        assert sorted(opened) == ["text_encoder", "unet", "vae_decoder", "vae_encoder"]
        for loras, wanted in (
            ([unet], ["unet"]),
            ([unet], []),
            ([unet, text], ["text_encoder"]),
            ([(unet, 0.5), text], ["unet"]),
            ([text], ["unet"]),
            ([], ["text_encoder"]),
        ):
            opened.clear()
            editor.set_loras(loras)
            edit(editor, scene)
            assert opened == wanted


def test_the_result_says_which_loras_were_in_use(file: Path, scene: Image.Image) -> None:
    with Editor("shapes", backend="ort-cpu", threads=2, loras=[(file, 0.25)]) as editor:
        result = editor.edit(scene, BLUE, **QUICK)
        assert editor.loras == result.loras
        assert [(spec.name, spec.scale) for spec in result.loras] == [("style.safetensors", 0.25)]
        (noted,) = result.parameters["loras"]
        assert (noted["name"], noted["scale"], len(noted["sha256"])) == ("style.safetensors", 0.25, 64)
        editor.set_loras([])
        assert "loras" not in editor.edit(scene, BLUE, **QUICK).parameters


def test_a_wrong_file_leaves_all_as_it_was(file: Path, scene: Image.Image, tmp_path: Path) -> None:
    with Editor("shapes", backend="ort-cpu", threads=2, loras=[file]) as editor:
        expected = edit(editor, scene)
        with pytest.raises(LoraError):
            editor.set_loras([tmp_path / "nowhere.safetensors"])
        assert len(editor.loras) == 1
        np.testing.assert_array_equal(edit(editor, scene), expected)


def test_the_null_backend_checks_the_file_alone(file: Path, scene: Image.Image) -> None:
    with Editor("shapes", backend="null", loras=[file]) as editor:
        assert editor.edit(scene, BLUE, **QUICK).loras
        with pytest.raises(LoraError):
            editor.set_loras([file.with_name("nowhere")])


def test_an_overflow_is_told(file: Path, scene: Image.Image) -> None:
    with Editor("shapes", backend="ort-cpu", threads=2, loras=[(file, 1e39)]) as editor:
        with pytest.raises(LoraError, match=r"leaves the range of float(16|32)"):
            edit(editor, scene)
        editor.set_loras([])
        edit(editor, scene)


# The command.


def test_the_flag(run: Run, file: Path, tmp_path: Path) -> None:
    path = file.rename(tmp_path / "a:b.safetensors")  # a colon may be the name's own
    words = ("edit", "scene.png", INVERT, "--steps", 1, "--seed", 1, "--backend", "ort-cpu")
    outcome = run(*words, "-o", "o.png", "--lora", f"{path}:0.5", "--lora", path, "--json")
    noted = json.loads(outcome.out)["parameters"]["loras"]
    assert [(entry["name"], entry["scale"]) for entry in noted] == [("a:b.safetensors", 0.5), ("a:b.safetensors", 1.0)]
    assert json.loads(run("inspect", "o.png", "--json").out)["parameters"]["loras"] == noted
    again = run(*words[:2], "--from", "o.png", "-o", "again.png")
    assert "with the LoRAs a:b.safetensors:0.5, a:b.safetensors:1.0, now with no LoRA" in again.err
    again = run(*words[:2], "--from", "o.png", "-o", "same.png", "--lora", f"{path}:0.5", "--lora", path)
    assert "LoRA" not in again.err
    np.testing.assert_array_equal(pixels(Image.open("same.png")), pixels(Image.open("o.png")))
    planned = run(*words, "-o", "p.png", "--lora", path, "--json", "--dry-run")
    assert json.loads(planned.out)["parameters"]["loras"] == noted[1:]


def test_the_text_encoders_scale(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "both.safetensors", lora(ATTENTION[:4]) | lora(TEXT[:4], part="text_encoder"))
    words = ("edit", "scene.png", INVERT, "--steps", 1, "--seed", 1, "--backend", "ort-cpu")
    noted = json.loads(run(*words, "-o", "o.png", "--lora", f"{path}:0.5:0", "--json").out)["parameters"]["loras"]
    assert [(entry["scale"], entry["text_encoder_scale"]) for entry in noted] == [(0.5, 0.0)]
    again = run(*words[:2], "--from", "o.png", "-o", "again.png", "--lora", f"{path}:0.5")
    assert "with the LoRAs both.safetensors:0.5:0.0, now with the LoRAs both.safetensors:0.5" in again.err
    alone = write(tmp_path / "unet.safetensors", lora(ATTENTION[:4]))
    run(*words, "-o", "unet.png", "--lora", f"{alone}:0.5")
    np.testing.assert_array_equal(pixels(Image.open("o.png")), pixels(Image.open("unet.png")))


@pytest.mark.parametrize("scale", ["nan", "x", "", "0.5:x"])
def test_a_wrong_flag(run: Run, file: Path, scale: str) -> None:
    outcome = run("edit", "scene.png", INVERT, "-o", "o.png", "--lora", f"{file}:{scale}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "the scale of the LoRA" in outcome.err
