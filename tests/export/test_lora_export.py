"""LoRA against diffusers and peft: the run, the merged export and PyTorch agree."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import Exports
from peft_loras import LORA, export, make_lora, outputs, unet_inputs
from pixrt import Editor, LoraError
from pixrt.bundles.store import open_bundle
from pixrt.lora.merging import LoraInput, load_loras
from pixrt.lora.weights import read_table
from pixrt.options.choices import DEFAULT_FIELDS

pytest.importorskip("peft")
# peft warns of patterns that one of the two networks has no layer for, and of a second LoRA.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:::peft")]

INSTRUCTION = "make the background blue"


@pytest.fixture(scope="module")
def files(exports: Exports) -> tuple[Path, Path]:
    """One of both networks, with ranks and alphas of their own for some layers, and one of the UNet alone."""
    patterns = {"rank_pattern": {"conv_in": 2, "attn1.to_q": 4}, "alpha_pattern": {"to_k": 1.5, "fc1": 7}}
    wanted: dict[str, dict[str, Any]] = {
        "a": {"seed": 1, **patterns},
        "b": {"seed": 2, "text": False, "use_rslora": True},
    }
    first, second = (
        exports.other(
            f"lora-{name}", lambda folder, given=given: make_lora(exports.checkpoint("shapes"), folder, **given)
        )
        for name, given in wanted.items()
    )
    return first / LORA, second / LORA


@pytest.fixture(scope="module")
def plain(exports: Exports) -> Path:
    """The checkpoint of `shapes` in FP32: the bundle `shapes` would round a sum to FP16."""
    return exports.bundle("shapes", "fp32")


@pytest.fixture(scope="module")
def merged(exports: Exports, files: tuple[Path, Path]) -> Path:
    """The checkpoint of `shapes` with both LoRAs in it."""
    given: dict[str, Any] = {"loras": loras(files), "defaults_from": "shapes"}
    return exports.other("merged", lambda folder: export(exports.checkpoint("shapes"), folder, **given))


def loras(files: tuple[Path, Path]) -> tuple[LoraInput, ...]:
    return (files[0], 0.7), (files[1], -0.4)


@pytest.fixture
def pipeline(exports: Exports) -> Any:
    import diffusers

    return diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        exports.checkpoint("shapes"), safety_checker=None
    )


def test_the_run_is_the_merged_export_to_the_last_bit(
    files: tuple[Path, Path], merged: Path, plain: Path, scene: Any
) -> None:
    with Editor(merged, backend="ort-cpu") as one, Editor(plain, backend="ort-cpu", loras=loras(files)) as other:
        for expected, found in zip(outputs(one), outputs(other), strict=True):
            np.testing.assert_array_equal(found, expected)
        how = {name: getattr(one.manifest.defaults, name) for name in DEFAULT_FIELDS} | {"steps": 3, "seed": 1}
        pictures = [np.asarray(editor.edit(scene, INSTRUCTION, **how).image) for editor in (one, other)]
        np.testing.assert_array_equal(*pictures)
        other.set_loras([])
        without = np.asarray(other.edit(scene, INSTRUCTION, **how).image)
        assert not np.array_equal(without, pictures[0])


def test_the_run_is_diffusers(files: tuple[Path, Path], plain: Path, pipeline: Any) -> None:
    import torch

    pipeline.load_lora_weights(files[0], adapter_name="a")
    pipeline.load_lora_weights(files[1], adapter_name="b")
    pipeline.set_adapters(["a", "b"], [0.7, -0.4])
    with Editor(plain, backend="ort-cpu", loras=loras(files)) as editor, torch.no_grad():
        found, text = outputs(editor)
        hidden = pipeline.text_encoder(torch.arange(77)[None]).last_hidden_state[0].numpy()
        feeds = {name: torch.from_numpy(value.copy()) for name, value in unet_inputs(hidden).items()}
        expected = pipeline.unet(**feeds).sample.numpy()
        without = Editor(plain, backend="ort-cpu")
        assert np.abs(outputs(without)[0] - expected).max() > 0.05 * np.abs(expected).max()
    np.testing.assert_allclose(text, hidden, atol=1e-4 * np.abs(hidden).max())
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_bundle_says_what_was_merged(files: tuple[Path, Path], merged: Path) -> None:
    plain, source = open_bundle("shapes").manifest.source, open_bundle(merged).manifest.source
    assert [(lora.name, lora.scale) for lora in source.loras] == [(files[0].name, 0.7), (files[1].name, -0.4)]
    assert len({lora.sha256 for lora in source.loras}) == 2
    assert source.sha256 != plain.sha256
    assert not plain.loras


def test_the_bundle_says_what_was_taught(merged: Path, plain: Path) -> None:
    """With LoRAs in it, it may know more."""
    own, one, other = (open_bundle(each).manifest for each in ("shapes", plain, merged))
    assert own.instructions == one.instructions == other.instructions
    assert [each.is_unknown("add a castle") for each in (own, one, other)] == [True, True, False]


def scales(module: Any) -> dict[str, float]:
    """What peft multiplies each layer's product by."""
    return {
        name: next(iter(layer.scaling.values())) for name, layer in module.named_modules() if hasattr(layer, "scaling")
    }


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"metadata": False},
        {"use_rslora": True},
        {"alpha_pattern": {"attn2.to_k": 3, "mid_block.*to_q": 2, "^conv_in": 9}},
        {"rank_pattern": {"to_out.0": 5}, "alpha_pattern": {"to_out.0": 1}},
    ],
)
def test_scales_are_pefts(exports: Exports, pipeline: Any, tmp_path: Path, config: dict[str, Any]) -> None:
    file = make_lora(exports.checkpoint("shapes"), tmp_path, seed=3, **config)
    _assert_scales(file, pipeline)


def _assert_scales(file: Path, pipeline: Any) -> None:
    pipeline.load_lora_weights(file)
    table = read_table(open_bundle("shapes"))
    shapes = {part: {name: place.parameter_shape for name, place in places.items()} for part, places in table.items()}
    found = load_loras([file], shapes, "it").factors
    for part in ("unet", "text_encoder"):
        expected = scales(getattr(pipeline, part))
        assert {name.removesuffix(".weight"): given[0].scale for name, given in found[part].items()} == expected
        assert expected


@pytest.mark.parametrize("spelling", ["kohya", "diffusers"])
def test_other_spellings_are_read_as_diffusers_reads_them(
    exports: Exports, pipeline: Any, tmp_path: Path, spelling: str
) -> None:
    import torch
    from diffusers.utils import state_dict_utils
    from safetensors.torch import load_file, save_file

    file = make_lora(exports.checkpoint("shapes"), tmp_path, seed=3, metadata=False)
    tensors = {name: values for name, values in load_file(file).items() if "attn" in name}
    if spelling == "kohya":
        tensors = state_dict_utils.convert_state_dict_to_kohya(tensors)
        tensors |= {name: torch.tensor(1.5) for name in tensors if name.endswith(".alpha")}
    else:
        tensors = state_dict_utils.convert_state_dict_to_diffusers(tensors)
    save_file({name: values.contiguous() for name, values in tensors.items()}, tmp_path / "other.safetensors")
    _assert_scales(tmp_path / "other.safetensors", pipeline)


def test_a_lora_for_another_checkpoint_is_refused_before_the_export(exports: Exports, tmp_path: Path) -> None:
    file = make_lora(exports.checkpoint("sd2"), tmp_path / "lora", seed=6)
    stages: list[str] = []
    from pixrt_export import ExportOptions, export_checkpoint

    options = ExportOptions(checkpoint=str(exports.checkpoint("sd1")), output=tmp_path / "it", loras=(file,))
    with pytest.raises(LoraError, match="another architecture"):
        export_checkpoint(options, on_progress=stages.append)
    assert not stages
    assert not (tmp_path / "it").exists()


def test_an_older_bundle_opens_and_takes_no_lora(exports: Exports, files: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    from pixrt import BundleError

    folder = tmp_path / "old"
    shutil.copytree(open_bundle("shapes").folder, folder)
    (folder / "weights.json").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["weights.json"], manifest["source"]["loras"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    editor = Editor(folder)
    assert dataclasses.astuple(editor.manifest.source)[2] == ()
    with pytest.raises(BundleError, match=r"no weights\.json.*Export the checkpoint again"):
        editor.set_loras([files[0]])
