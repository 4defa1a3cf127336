"""Single files in the original layout: the networks of the folder in diffusers' format that they were made from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import checkpoints
from original_layout import original
from pixrt.errors import CheckpointError, OptionError
from pixrt_export import ExportOptions, export_checkpoint
from pixrt_export.single_file import unpacked

pytestmark = pytest.mark.torch

# Widths from which heads and groups can be told, as in all checkpoints of full size.
UNET = checkpoints.UNET | {
    **{"block_out_channels": (32, 64, 64), "norm_num_groups": 32, "attention_head_dim": 8},
    **{"layers_per_block": 2, "cross_attention_dim": 64},
}
SECOND = {"block_out_channels": (64, 128, 128), "attention_head_dim": (1, 2, 2), "use_linear_projection": True}
VAE = checkpoints.VAE | {"block_out_channels": (32, 32, 64, 64), "norm_num_groups": 32}
TEXT = checkpoints.TEXT | {"hidden_size": 64, "num_attention_heads": 1}
SECOND_TEXT = TEXT | {"hidden_act": "gelu", "num_hidden_layers": 3}
KINDS: dict[str, dict[str, Any]] = {
    "edit": {"unet": UNET},
    "text to image": {"unet": UNET | {"in_channels": 4}},
    "inpainting": {"unet": UNET | {"in_channels": 9}},
    "second": {"unet": UNET | SECOND | {"in_channels": 4}, "text": SECOND_TEXT, "tokenizer": {"pad_token": "!"}},
    "second, inpainting": {"unet": UNET | SECOND | {"in_channels": 9}, "text": SECOND_TEXT},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, parts in KINDS.items():
        checkpoints.KINDS[f"original {kind}"] = {"vae": VAE, "text": TEXT} | parts
        made[kind] = checkpoints.make_checkpoint(f"original {kind}", tmp_path_factory.mktemp("checkpoint"))
    return made


def weights_of(folder: Path, part: str) -> dict[str, torch.Tensor]:
    (file,) = (folder / part).glob("*.safetensors")
    # transformers has left "text_model." out since 5.6.
    return {name.removeprefix("text_model."): each for name, each in load_file(file).items()}


def single(folder: Path, target: Path, **how: bool) -> Path:
    tensors = original(folder, **how)
    if target.suffix == ".ckpt":
        torch.save({"state_dict": tensors, "global_step": 7}, target)
    else:
        save_file(tensors, target)
    return target


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_networks_are_the_folders(kind: str, suffix: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders[kind]
    file = single(folder, tmp_path / f"it{suffix}")
    with unpacked(file, allow_pickle=True, ema=False, prediction=None) as made:
        for part in ("unet", "vae", "text_encoder"):
            ours, theirs = weights_of(made, part), weights_of(folder, part)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        for part, names in {
            "unet": ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"),
            "vae": ("latent_channels", "block_out_channels", "layers_per_block", "scaling_factor"),
            "text_encoder": ("hidden_size", "num_hidden_layers", "intermediate_size", "hidden_act"),
        }.items():
            said, meant = (json.loads((each / part / "config.json").read_text()) for each in (made, folder))
            assert {name: said[name] for name in names} == {name: meant[name] for name in names}
    assert not made.exists()


@pytest.mark.parametrize("kind", ["edit", "second"])
def test_the_networks_are_those_of_from_single_file(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """diffusers' own reading of such a file, told the configs by a folder here."""
    import diffusers

    file = single(folders[kind], tmp_path / "it.safetensors")
    theirs = diffusers.StableDiffusionInstructPix2PixPipeline.from_single_file(
        str(file), config=str(folders[kind]), local_files_only=True, safety_checker=None
    )
    with unpacked(file, allow_pickle=False, ema=False, prediction=None) as made:
        for part in ("unet", "vae", "text_encoder"):
            ours = weights_of(made, part)
            named = getattr(theirs, part).state_dict().items()
            expected = {name.removeprefix("text_model."): each for name, each in named}
            assert ours.keys() == expected.keys()
            assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_averaged_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    file = single(folders["edit"], tmp_path / "it.safetensors", ema=True)
    tensors = load_file(file)
    save_file({**tensors, "control_model.a": torch.zeros(1), "control_model.b": torch.zeros(1)}, file)
    notes: list[str] = []
    with unpacked(file, allow_pickle=False, ema=False, prediction=None, notes=notes):
        pass
    assert "--ema takes them" in notes[0]
    assert notes[1:] == ["the file holds control_model too (2 tensors), which is not used"]
    for ema, sign in ((False, 1), (True, -1)):
        with unpacked(file, allow_pickle=False, ema=ema, prediction=None) as made:
            ours, theirs = weights_of(made, "unet"), weights_of(folders["edit"], "unet")
            assert all(torch.equal(ours[name], sign * theirs[name]) for name in theirs)


def test_the_first_files_of_all(folders: dict[str, Path], tmp_path: Path) -> None:
    """The first releases of transformers said no "text_model."; files were often halved."""
    tensors = {
        name.replace("transformer.text_model.", "transformer."): each.half()
        for name, each in original(folders["edit"]).items()
    }
    save_file(tensors, tmp_path / "old.safetensors")
    with unpacked(tmp_path / "old.safetensors", allow_pickle=False, ema=False, prediction=None) as made:
        ours, theirs = weights_of(made, "text_encoder"), weights_of(folders["edit"], "text_encoder")
        assert all(torch.equal(ours[name], theirs[name].half()) for name in theirs)


@pytest.mark.parametrize(("shift", "found"), [(-3.0, "v_prediction"), (0.0, "epsilon")])
def test_what_the_second_predicts_is_found_out(
    shift: float, found: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """A network that predicts v gives about the negative of what it sees when there is nothing but noise."""
    tensors = original(folders["second"])
    tensors["model.diffusion_model.out.2.bias"] += shift
    save_file(tensors, tmp_path / "it.safetensors")
    for given, expected in ((None, found), ("epsilon", "epsilon"), ("v_prediction", "v_prediction")):
        with unpacked(tmp_path / "it.safetensors", allow_pickle=False, ema=False, prediction=given) as made:  # type: ignore[arg-type]
            scheduler = json.loads((made / "scheduler" / "scheduler_config.json").read_text())
            assert scheduler["prediction_type"] == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["conditioner.embedders.0.transformer.x", "model.diffusion_model.input_blocks.0.0.weight"],
            "Stable Diffusion XL",
        ),
        (["model.diffusion_model.joint_blocks.0.x"], "Stable Diffusion 3"),
        (["double_blocks.0.img_attn.x"], "Flux"),
        (["lora_unet_down_blocks_0.lora_down.weight"], "a LoRA"),
        (["down_blocks.0.resnets.0.conv1.weight"], "diffusers' layout"),
        (["decoder.conv_in.weight"], "a VAE without the rest"),
        (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"], "without a text encoder"),
        (["anything"], "without a UNet, a VAE, a text encoder"),
    ],
)
def test_files_of_something_else(names: list[str], words: str, tmp_path: Path) -> None:
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "it.safetensors")
    with (
        pytest.raises(CheckpointError, match=words),
        unpacked(tmp_path / "it.safetensors", allow_pickle=False, ema=False, prediction=None),
    ):
        pass


def test_files_that_are_none(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").write_bytes(b"nonsense")
    (tmp_path / "it.ckpt").write_bytes(b"nonsense")
    (tmp_path / "it.zip").write_bytes(b"nonsense")
    whole = original(folders["edit"])
    del whole["first_stage_model.post_quant_conv.weight"]
    save_file(whole, tmp_path / "part.safetensors")
    for name, words in {
        "it.safetensors": "no safetensors file",
        "it.ckpt": "weights_only",
        "it.zip": "is no checkpoint",
        "part.safetensors": "in no layout that is known",
    }.items():
        with (
            pytest.raises(CheckpointError, match=words),
            unpacked(tmp_path / name, allow_pickle=True, ema=False, prediction=None),
        ):
            pass
    with (
        pytest.raises(CheckpointError, match="is a pickle"),
        unpacked(tmp_path / "it.ckpt", allow_pickle=False, ema=False, prediction=None),
    ):
        pass


def test_the_bundle_is_the_folders(folders: dict[str, Path], tmp_path: Path) -> None:
    file = single(folders["edit"], tmp_path / "my-model.safetensors")
    made = {}
    for name, checkpoint in (("file", file), ("folder", folders["edit"])):
        options = ExportOptions(checkpoint=str(checkpoint), output=tmp_path / name)
        made[name] = export_checkpoint(options, on_progress=lambda stage: None)
    for path in sorted((tmp_path / "folder").iterdir()):
        if path.name == "vocab.json":  # transformers writes it with white space
            assert json.loads((tmp_path / "file" / path.name).read_text()) == json.loads(path.read_text())
        elif path.name != "manifest.json":
            assert (tmp_path / "file" / path.name).read_bytes() == path.read_bytes(), path.name
    ours, theirs = made["file"].manifest, made["folder"].manifest
    assert ours.source.id == "my-model"
    assert ours.source.sha256 != theirs.source.sha256
    assert (ours.latents, ours.prediction, ours.tokenizers) == (theirs.latents, theirs.prediction, theirs.tokenizers)
    np.testing.assert_allclose(ours.preview, theirs.preview)


def test_options_of_files_are_not_for_folders(folders: dict[str, Path], tmp_path: Path) -> None:
    for option in ({"ema": True}, {"prediction": "epsilon"}):
        options = ExportOptions(checkpoint=str(folders["edit"]), output=tmp_path / "it", **option)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="no single file"):
            export_checkpoint(options, on_progress=lambda stage: None)
