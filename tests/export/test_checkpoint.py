"""Which checkpoints are read, and how every other is refused before hours are spent on it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints import copy_shapes, make_checkpoint
from exported import Exports
from kept import writable_copy
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import sha256_file
from pixrt.errors import CheckpointError, OptionError
from pixrt_export import ExportOptions, export_checkpoint

pytestmark = pytest.mark.torch


def export(checkpoint: Path | str, output: Path, **options: Any) -> Any:
    given = ExportOptions(checkpoint=str(checkpoint), output=output, **options)
    return export_checkpoint(given, on_progress=lambda stage: None)


@pytest.mark.parametrize(
    "how", [*(pytest.param(how, marks=pytest.mark.slow) for how in ("sharded", "fp16 variant")), "saved in fp16"]
)
@pytest.mark.slow
def test_other_ways_of_saving(how: str, exports: Exports, tmp_path: Path) -> None:
    import diffusers
    import torch

    if how == "sharded":
        checkpoint = make_checkpoint("sd1", tmp_path / "it", max_shard_size="200KB")
        assert len(list((checkpoint / "unet").glob("*.safetensors"))) > 1
    elif how == "fp16 variant":
        checkpoint = make_checkpoint("sd1", tmp_path / "it", variant="fp16")
    else:
        checkpoint = writable_copy(exports.checkpoint("sd1"), tmp_path / "it")
        vae = diffusers.AutoencoderKL.from_pretrained(checkpoint / "vae").to(torch.float16)
        vae.save_pretrained(checkpoint / "vae")
    report = export(checkpoint, tmp_path / "bundle")
    assert report.manifest.component(Component.VAE_DECODER).check.max_error < 1e-4
    if how != "saved in fp16":
        assert sha256_file(tmp_path / "bundle" / "unet.onnx") == sha256_file(
            exports.bundle("sd1", "fp32") / "unet.onnx"
        )


@pytest.mark.slow
def test_pickles_only_when_asked_for(exports: Exports, tmp_path: Path) -> None:
    checkpoint = make_checkpoint("sd1", tmp_path / "it", safe_serialization=False)
    with pytest.raises(CheckpointError, match=r"a pickle .*save_pretrained.*--allow-pickle"):
        export(checkpoint, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    report = export(checkpoint, tmp_path / "bundle", allow_pickle=True)
    assert report.manifest.component(Component.UNET).check.max_error < 1e-4
    # weights_only loading runs no code: a pickle that would is refused.
    (checkpoint / "unet" / "diffusion_pytorch_model.bin").write_bytes(
        b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR."
    )
    with pytest.raises(CheckpointError):
        export(checkpoint, tmp_path / "other", allow_pickle=True)
    assert not (tmp_path / "owned").exists()


def _edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _poison(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["decoder.conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path)


def _drop(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["decoder.conv_in.weight"]
    save_file(weights, path)


def _drop_from(path: Path, ending: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    save_file({name: value for name, value in weights.items() if not name.endswith(ending)}, path, {"format": "pt"})


def _exchange_unet(folder: Path) -> None:
    (folder / "unet").rename(folder / "transformer")
    (folder / "model_index.json").unlink(missing_ok=True)
    _edit_json(folder / "transformer" / "config.json", _class_name="PixArtTransformer2DModel")


SCHEDULER = "scheduler_config.json"
UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no unet": (lambda f: shutil.rmtree(f / "unet"), "unet"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "scheduler"),
    "no vocabulary": (lambda f: (f / "tokenizer" / "vocab.json").unlink(), "vocab.json"),
    "no weights": (lambda f: (f / "unet" / UNET_WEIGHTS).unlink(), "has no diffusion_pytorch_model.safetensors"),
    "no config": (lambda f: (f / "vae" / "config.json").unlink(), "vae/config.json is missing"),
    "config that is no JSON": (
        lambda f: (f / "unet" / "config.json").write_text("{"),
        "unet/config.json cannot be read",
    ),
    "config that is a list": (lambda f: (f / "unet" / "config.json").write_text("[]"), "not a JSON object"),
    "cut weights": (lambda f: os.truncate(f / "unet" / UNET_WEIGHTS, 5000), "the unet of"),
    "empty weights": (lambda f: os.truncate(f / "unet" / UNET_WEIGHTS, 0), "the unet of"),
    "weights of another shape": (lambda f: _edit_json(f / "unet" / "config.json", in_channels=4), "the unet of"),
    "NaN weights": (_poison, "decoder.conv_in.weight of the vae of it holds values that are not finite"),
    "a weight missing": (_drop, "decoder.conv_in.weight"),
    "7 channels": (lambda f: _edit_json(f / "unet" / "config.json", in_channels=7), "in_channels 7"),
    "another unet": (lambda f: _edit_json(f / "unet" / "config.json", _class_name="UNet3D"), "the unet is UNet3D"),
    "another vae": (lambda f: _edit_json(f / "vae" / "config.json", _class_name="VQModel"), "the vae of it is VQModel"),
    "another width": (lambda f: _edit_json(f / "unet" / "config.json", cross_attention_dim=768), "text of width 768"),
    "SDXL": (lambda f: (f / "text_encoder_2").mkdir(), "second text encoder"),
    "SDXL by its name": (
        lambda f: _edit_json(f / "model_index.json", _class_name="StableDiffusionXLPipeline"),
        "it is Stable Diffusion XL (StableDiffusionXLPipeline)",
    ),
    "SDXL by its unet": (
        lambda f: _edit_json(f / "unet" / "config.json", addition_embed_type="text_time"),
        "the unet is Stable Diffusion XL's",
    ),
    "Flux": (lambda f: _edit_json(f / "model_index.json", _class_name="FluxPipeline"), "it is Flux (FluxPipeline)"),
    "a transformer": (_exchange_unet, "it is PixArt (PixArtTransformer2DModel)"),
    "flow matching": (
        lambda f: _edit_json(f / "scheduler" / SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"),
        "is FlowMatchEulerDiscreteScheduler, and its noise process is flow matching",
    ),
    "EDM": (
        lambda f: _edit_json(f / "scheduler" / SCHEDULER, _class_name="EDMEulerScheduler", sigma_data=0.5),
        "its noise process is EDM",
    ),
    "EDM in the guise of Euler": (
        lambda f: _edit_json(f / "scheduler" / SCHEDULER, timestep_type="continuous", sigma_max=120.0),
        "its noise process is EDM",
    ),
    "flow in the guise of DPM-Solver": (
        lambda f: _edit_json(f / "scheduler" / SCHEDULER, use_flow_sigmas=True),
        "its noise process is flow matching",
    ),
    "class embedding": (
        lambda f: _edit_json(f / "unet" / "config.json", class_embed_type="timestep"),
        "class_embed_type",
    ),
    "prediction": (lambda f: _edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="sample"), "sample"),
    "scheduler": (lambda f: _edit_json(f / "scheduler" / "scheduler_config.json", _class_name="Heun"), "Heun"),
    "text weights missing": (
        lambda f: _drop_from(f / "text_encoder" / "model.safetensors", "final_layer_norm.bias"),
        "final_layer_norm.bias of the text_encoder of it is missing",
    ),
    "text weights cut": (lambda f: os.truncate(f / "text_encoder" / "model.safetensors", 900), "the text_encoder of"),
    "variance learned": (lambda f: _edit_json(f / "unet" / "config.json", out_channels=8), "out_channels 8"),
    "class count": (lambda f: _edit_json(f / "unet" / "config.json", num_class_embeds=5), "num_class_embeds"),
    "latent channels in words": (lambda f: _edit_json(f / "vae" / "config.json", latent_channels="four"), "value"),
    "sample size of nothing": (lambda f: _edit_json(f / "unet" / "config.json", sample_size=[]), "value"),
    "grey pictures": (lambda f: _edit_json(f / "vae" / "config.json", in_channels=1), "RGB"),
    "broken vocabulary": (lambda f: (f / "tokenizer" / "vocab.json").write_text("{oops"), "tokenizer"),
    "empty vocabulary": (lambda f: (f / "tokenizer" / "vocab.json").write_text("{}"), "out of vocabulary"),
    "too many words": (lambda f: _edit_json(f / "text_encoder" / "config.json", vocab_size=1000), "ids up to 49407"),
    "thresholding": (
        lambda f: _edit_json(f / "scheduler" / "scheduler_config.json", thresholding=True),
        "thresholding",
    ),
    "betas in words": (
        lambda f: _edit_json(f / "scheduler" / "scheduler_config.json", beta_start="x"),
        "cannot be read",
    ),
    "scaling factor": (lambda f: _edit_json(f / "vae" / "config.json", scaling_factor=-1), "scaling_factor is -1"),
}


def refuse(folder: Path) -> None:
    """What an export does before it traces a network, for all of them."""
    from pixrt.maths.solvers import build_table, scheduler_name
    from pixrt_export.export import write_tokenizer
    from pixrt_export.opening import open_checkpoint

    checkpoint = open_checkpoint(str(folder))
    build_table(scheduler_name(checkpoint.scheduler), checkpoint.scheduler, 100)
    written = folder / "bundle"
    written.mkdir()
    write_tokenizer(checkpoint, written)
    for part in ("text_encoder", "vae", "unet"):
        checkpoint.load(part)


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_checkpoints(name: str, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    damage(copy_shapes(tmp_path / "it"))
    with pytest.raises((CheckpointError, OptionError)) as caught:
        refuse(tmp_path / "it")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Found by opening the checkpoint, by opening its tokenizer, and by loading a network.
@pytest.mark.parametrize("name", ["7 channels", "too many words", "text weights missing"])
def test_an_export_of_a_damaged_checkpoint_leaves_no_output(name: str, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    damage(copy_shapes(tmp_path / "it"))
    with pytest.raises(CheckpointError) as caught:
        export(tmp_path / "it", tmp_path / "out" / "bundle")
    assert words in str(caught.value)
    assert not list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else True


def test_no_scheduler_changes_the_noise_process(tmp_path: Path) -> None:
    _edit_json(copy_shapes(tmp_path / "it") / "scheduler" / SCHEDULER, _class_name="EDMDPMSolverMultistepScheduler")
    with pytest.raises(CheckpointError, match=r"EDM.*no --scheduler can change that"):
        export(tmp_path / "it", tmp_path / "bundle", scheduler="euler")


def test_variants_and_shards_of_pickles(tmp_path: Path) -> None:
    """The weights of every form that diffusers and transformers write are those of safetensors."""
    import torch

    from pixrt_export.opening import open_checkpoint

    made = make_checkpoint("sd1", tmp_path / "safe")
    ways: dict[str, dict[str, Any]] = {
        "variant": {"variant": "fp16"},
        "shards": {"max_shard_size": "200KB"},
        "both": {"variant": "ema", "max_shard_size": "200KB"},
    }
    for name, how in ways.items():
        folder = make_checkpoint("sd1", tmp_path / name, safe_serialization=False, **how)
        with pytest.raises(CheckpointError, match="--allow-pickle"):
            open_checkpoint(str(folder))
        opened = open_checkpoint(str(folder), allow_pickle=True)
        for part in ("unet", "vae", "text_encoder"):
            ours, theirs = opened.load(part).state_dict(), open_checkpoint(str(made)).load(part).state_dict()
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_weights_that_are_not_used_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from pixrt_export.opening import open_checkpoint

    path = copy_shapes(tmp_path / "it") / "unet" / UNET_WEIGHTS
    weights = load_file(path)
    some = next(iter(weights.values()))
    save_file({**weights, "a_teacher.weight": some.clone(), "z.bias": some.clone()}, path, {"format": "pt"})
    opened = open_checkpoint(str(tmp_path / "it"))
    opened.load("text_encoder")
    assert not opened.notes
    opened.load("unet")
    assert opened.notes == ["of the unet of it 2 weights are not used, such as a_teacher.weight"]


def test_defaults_are_kept(tmp_path: Path) -> None:
    from pixrt.bundles.store import open_bundle
    from pixrt_export.defaults import said_by

    kept = open_bundle("shapes").manifest
    saved = {"_class_name": "DDIMScheduler"}
    options: dict[str, Any] = {"checkpoint": "it", "output": tmp_path}
    said = said_by(ExportOptions(**options, defaults_from="shapes"), saved)
    assert (said.defaults, said.notice, said.examples) == (kept.defaults, kept.notice, kept.examples)
    said = said_by(ExportOptions(**options, defaults_from="shapes", steps=7, scheduler="euler", examples=("a",)), saved)
    assert (said.defaults.steps, said.defaults.scheduler, said.examples) == (7, "euler", ("a",))
    assert said.defaults.guidance_scale == kept.defaults.guidance_scale
    said = said_by(ExportOptions(**options), saved)
    assert (said.defaults.steps, said.defaults.guidance_scale, said.defaults.scheduler) == (100, 7.5, "ddim")


@pytest.mark.parametrize("wrong", ["[]", "{", '{"snow": "make it snow"}', '{"snow": [5]}', '{"snow": []}'])
def test_instructions_that_are_none(wrong: str, tmp_path: Path) -> None:
    from pixrt_export.opening import open_checkpoint

    folder = copy_shapes(tmp_path / "it")
    assert "remove" in open_checkpoint(str(folder)).instructions
    assert open_checkpoint(str(folder), without_source=True).instructions == {}
    (folder / "instructions.json").write_text(wrong)
    with pytest.raises(CheckpointError, match=r"instructions\.json"):
        _ = open_checkpoint(str(folder)).instructions
    (folder / "instructions.json").unlink()
    assert open_checkpoint(str(folder)).instructions == {}


def test_the_hubs_cache(tmp_path: Path) -> None:
    """A repository's folder there, or a snapshot in it, is called as the repository is."""
    from pixrt_export.opening import open_checkpoint

    root = tmp_path / "models--timbrooks--instruct-pix2pix"
    copy_shapes(root / "snapshots" / "31519b5c")
    assert open_checkpoint(str(root)).id == "timbrooks/instruct-pix2pix"
    assert open_checkpoint(str(root / "snapshots" / "31519b5c")).id == "timbrooks/instruct-pix2pix"
    shutil.copytree(root / "snapshots" / "31519b5c" / "unet", root / "snapshots" / "other" / "unet")
    with pytest.raises(CheckpointError, match="holds 2 snapshots"):
        open_checkpoint(str(root))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("31519b5c")
    assert open_checkpoint(str(root)).folder.name == "31519b5c"


@pytest.mark.parametrize("name", ["nowhere", "owner/name", "a b c", "", "x" * 300, "../x/y"])
def test_what_is_no_checkpoint(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        export(name, tmp_path / "bundle")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("file", "words"), [("model.ckpt", "allow-pickle"), ("model.safetensors", "no safetensors")])
def test_single_files_that_are_not_read(file: str, words: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=words):
        export(tmp_path / file, tmp_path / "bundle")
    with pytest.raises(CheckpointError):
        export(tmp_path, tmp_path / "bundle")


def test_a_tiny_vae_needs_a_factor(exports: Exports, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--source-scaling-factor"):
        export(exports.checkpoint("tiny_vae"), tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="needs none"):
        export(exports.checkpoint("shapes"), tmp_path / "bundle", source_scaling_factor=0.18215)


def test_the_same_weights_are_read_wherever_they_stand(tmp_path: Path) -> None:
    from pixrt_export.hub import wanted_files

    hub = [
        "README.md",
        "instruct-pix2pix-00-22000.ckpt",
        "instruct-pix2pix-00-22000.safetensors",
        "instructions.json",
        "model_index.json",
        "safety_checker/model.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/pytorch_model.bin",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.bin",
    ]
    wanted = set(wanted_files(hub, allow_pickle=False))
    assert wanted == {
        "instructions.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "vae/config.json",
    }
    assert set(wanted_files(hub, allow_pickle=True)) - wanted == {"vae/diffusion_pytorch_model.bin"}
    shards = [f"vae/diffusion_pytorch_model.fp16-0000{n}-of-00002.bin" for n in (1, 2)]
    plain, index = "vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin.index.fp16.json"
    assert set(wanted_files([*shards, index], allow_pickle=True)) - {"model_index.json"} == {*shards, index}
    assert set(wanted_files([*shards, plain], allow_pickle=True)) - {"model_index.json"} == {plain}
