"""Bundles that hold their checkpoint: the same numbers, and the files that diffusers and transformers open."""

from pathlib import Path

import numpy as np
import pytest

from exported import Exports
from peft_loras import export, make_lora, outputs
from pixrt import Editor, OptionError
from pixrt.bundles.store import open_bundle
from pixrt.lora.merging import load_loras, merge, replacements
from pixrt.lora.weights import read_table, read_weight
from pixrt_export import ExportOptions

pytest.importorskip("peft")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:::peft")]


@pytest.fixture(scope="module")
def checkpoint(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in FP16."""
    import diffusers
    import torch

    folder = tmp_path_factory.mktemp("half")
    source = exports.checkpoint("sd1")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(source, safety_checker=None)
    pipeline.to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("plain") / "bundle", fused_step=True)


@pytest.fixture(scope="module")
def small(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("small") / "bundle", fused_step=True, compact=True)


@pytest.mark.parametrize("backend", ["ort-cpu", "openvino"])
def test_the_same_numbers(plain: Path, small: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    with Editor(plain, backend=backend) as one, Editor(small, backend=backend) as other:
        for expected, found in zip(outputs(one), outputs(other), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_its_weights_are_the_checkpoints(checkpoint: Path, small: Path) -> None:
    """To the bit, under the same names."""
    from safetensors.numpy import load_file

    files = {
        "unet": "unet/diffusion_pytorch_model.safetensors",
        "vae": "vae/diffusion_pytorch_model.safetensors",
        "text_encoder": "text_encoder/model.safetensors",
    }
    for name, file in files.items():
        expected, found = load_file(checkpoint / file), load_file(small / f"{name}.safetensors")
        assert {key: value.tobytes() for key, value in found.items()} == {
            key: value.tobytes() for key, value in expected.items()
        }
    assert {place.file for places in read_table(open_bundle(small)).values() for place in places.values()} == {
        "unet.safetensors",
        "text_encoder.safetensors",
    }


def test_loras_find_every_layer(checkpoint: Path, plain: Path, small: Path, tmp_path: Path) -> None:
    """What is merged is rounded to FP16, as the place that it goes to holds."""
    tables = [read_table(open_bundle(folder)) for folder in (plain, small)]
    names = [{part: set(places) for part, places in table.items()} for table in tables]
    assert names[0] == names[1]
    for part, places in tables[0].items():
        for name, place in places.items():
            np.testing.assert_array_equal(
                read_weight(plain, place), read_weight(small, tables[1][part][name]).astype(np.float32)
            )
    file = make_lora(checkpoint, tmp_path / "lora", seed=4)
    shapes = {
        part: {name: place.parameter_shape for name, place in places.items()}
        for part, places in tables[1].items()
        if part != "unet_step"
    }
    factors = load_loras([file], shapes, "small").factors["unet"]
    places = tables[1]["unet"]
    new = {weight.initializer: weight.values for weight in replacements(open_bundle(small), places, factors)}
    for name, given in factors.items():
        expected = merge(name, read_weight(small, places[name]), given).astype(np.float16)
        np.testing.assert_array_equal(new[places[name].initializer], expected)
    with Editor(small) as editor:
        without = outputs(editor)
        editor.set_loras([file])
        assert not any(np.array_equal(one, other) for one, other in zip(without, outputs(editor), strict=True))
        editor.set_loras([])
        for one, other in zip(without, outputs(editor), strict=True):
            np.testing.assert_array_equal(one, other)


def test_only_what_loses_nothing(exports: Exports, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is not in FP16"):
        export(exports.checkpoint("sd1"), tmp_path / "bundle", compact=True)
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(OptionError, match="compact is given, and precision is fp16"):
        ExportOptions(checkpoint="x", output=tmp_path, precision="fp16", compact=True)
