"""Export: every kind of checkpoint becomes a bundle that computes what PyTorch computes; the rest is refused."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import TOKENIZER, copy_demo, make_checkpoint
from exported import Exports
from pixrt import Editor
from pixrt.errors import CheckpointError, ExportMismatch, OptionError, OutputError
from pixrt.spec import Component
from pixrt.store import open_bundle, sha256_file
from pixrt_export import ExportOptions, export_checkpoint

pytestmark = pytest.mark.torch

EVERY = [
    ("sd1", "fp32"),
    ("sd1", "fp16"),
    ("sd2", "fp32"),
    ("sd2", "fp16-weights"),
    ("text_to_image", "fp32"),
    ("inpainting", "fp32"),
    ("tiny_vae", "fp32"),
    ("tiny_vae", "fp16"),
]
FACTS = {
    "sd1": ("edit", 8, "epsilon", 0.18215),
    "sd2": ("edit", 8, "v_prediction", 0.18215),
    "text_to_image": ("generate", 4, "epsilon", 0.18215),
    "inpainting": ("inpaint", 9, "epsilon", 0.18215),
    "tiny_vae": ("edit", 8, "epsilon", 1.0),
}


def export(checkpoint: Path | str, output: Path, **options: Any) -> Any:
    given = ExportOptions(checkpoint=str(checkpoint), output=output, **options)
    return export_checkpoint(given, on_progress=lambda stage: None)


@pytest.mark.parametrize(("kind", "precision"), EVERY)
def test_a_bundle_says_what_the_checkpoint_says(exports: Exports, kind: str, precision: str) -> None:
    import onnx

    bundle = open_bundle(exports.bundle(kind, precision))
    manifest = bundle.manifest
    facts = (manifest.task, manifest.unet_in_channels, manifest.prediction_type, manifest.scaling_factor)
    assert facts == FACTS[kind]
    assert (manifest.precision, manifest.native_resolution, manifest.vae_scale) == (precision, 64, 8)
    assert (manifest.defaults.scheduler, manifest.defaults.steps) == ("euler_ancestral", 100)
    assert manifest.tokenizer.pad_token == ("!" if kind == "sd2" else "<|endoftext|>")
    half = "float16" if precision == "fp16" else "float32"
    inputs = manifest.component(Component.UNET).inputs
    assert [(tensor.name, tensor.dtype) for tensor in inputs] == [
        ("sample", half),
        ("timestep", "float32"),
        ("encoder_hidden_states", half),
    ]
    assert inputs[1].shape == ("batch",)
    assert inputs[0].shape == ("batch", manifest.unet_in_channels, "height", "width")
    for component in Component:
        model = onnx.load(str(bundle.file(component)), load_external_data=False)
        onnx.checker.check_model(str(bundle.file(component)), full_check=True)
        assert {opset.domain: opset.version for opset in model.opset_import}[""] >= 17
        spec = manifest.component(component)
        assert spec.check.max_error <= spec.check.tolerance
    assert manifest.preview
    assert {"torch", "diffusers", "onnx", "pixrt"} <= manifest.tools.keys()


@pytest.mark.parametrize(("kind", "precision"), EVERY)
def test_networks_are_pytorchs_at_shapes_nobody_traced(exports: Exports, kind: str, precision: str) -> None:
    import diffusers
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(open_bundle(exports.bundle(kind, precision)).file(Component.UNET)), options
    )
    unet = diffusers.UNet2DConditionModel.from_pretrained(exports.checkpoint(kind) / "unet")
    generator = np.random.default_rng(1)
    for batch, height, width in ((1, 8, 8), (2, 5, 11), (3, 13, 6)):
        shape = (batch, unet.config.in_channels, height, width)
        sample = generator.standard_normal(shape).astype(np.float32)
        text = generator.standard_normal((batch, 77, unet.config.cross_attention_dim)).astype(np.float32)
        timestep = generator.uniform(0, 999, batch).astype(np.float32)
        with torch.no_grad():
            expected = unet(torch.tensor(sample), torch.tensor(timestep), torch.tensor(text)).sample.numpy()
        half = np.float16 if precision == "fp16" else np.float32
        feeds = {"sample": sample.astype(half), "timestep": timestep, "encoder_hidden_states": text.astype(half)}
        (found,) = session.run(None, feeds)
        # FP32: sums in another order. FP16: 11 bits, some dozen layers.
        tolerance = 1e-5 if precision == "fp32" else 1e-2
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["sd1", "sd2", "tiny_vae"])
def test_source_latents_are_the_unscaled_mean(exports: Exports, kind: str) -> None:
    import diffusers
    import onnxruntime
    import torch

    bundle = open_bundle(exports.bundle(kind, "fp32"))
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 64)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(str(bundle.file(Component.VAE_ENCODER))).run(None, {"sample": pixels})
    vae_class = diffusers.AutoencoderTiny if kind == "tiny_vae" else diffusers.AutoencoderKL
    vae = vae_class.from_pretrained(exports.checkpoint(kind) / "vae")
    with torch.no_grad():
        encoded = vae.encode(torch.from_numpy(pixels))
    # A tiny autoencoder encodes to scaled latents.
    expected = encoded.latents / 0.18215 if kind == "tiny_vae" else encoded.latent_dist.mean
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "precision"), [("sd1", "fp16"), ("sd2", "fp16-weights"), ("tiny_vae", "fp16")])
def test_other_precisions_edit_alike(exports: Exports, kind: str, precision: str, scene: Any) -> None:
    images = []
    for each in ("fp32", precision):
        with Editor(exports.bundle(kind, each), backend="ort-cpu") as editor:
            images.append(np.int16(editor.edit(scene, "make it winter", steps=3, seed=1).image))
    # Random weights, so the picture is noise of full range; rounding to 11 bits moves it by some grey levels.
    assert np.abs(images[0] - images[1]).mean() < 3


def test_bundles_for_other_tasks_open_but_do_not_edit(exports: Exports) -> None:
    for kind, words in (("text_to_image", "text-to-image"), ("inpainting", "inpainting")):
        with pytest.raises(OptionError, match=words):
            Editor(exports.bundle(kind, "fp32"))


def test_two_exports_are_byte_for_byte_alike(exports: Exports, tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        first = exports.bundle("sd1", precision)
        export(exports.checkpoint("sd1"), tmp_path / precision, precision=precision, name=first.name)
        for path in first.iterdir():
            assert sha256_file(path) == sha256_file(tmp_path / precision / path.name), path.name


def test_files_follow_the_umask_and_name_no_machine(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.bundle("sd1", "fp32")
    mask = os.umask(0)
    os.umask(mask)
    for path in bundle.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path.name
        content = path.read_bytes()
        for secret in (str(bundle.parent), str(Path.home()) + "/", str(Path(__file__).parent)):
            assert secret.encode() not in content
    assert bundle.stat().st_mode & 0o777 == 0o777 & ~mask


def test_large_weights_stand_outside(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Any
) -> None:
    monkeypatch.setattr("pixrt_export.tracing.EXTERNAL_ABOVE_BYTES", 100_000)
    mask = os.umask(0)
    os.umask(mask)
    for precision in ("fp32", "fp16", "fp16-weights"):
        export(exports.checkpoint("sd1"), tmp_path / precision, precision=precision)
        data = tmp_path / precision / "unet.onnx_data"
        assert data.stat().st_mode & 0o777 == 0o666 & ~mask
        assert "unet.onnx_data" in open_bundle(tmp_path / precision).manifest.files
        moved = (tmp_path / precision).rename(tmp_path / f"moved-{precision}")
        with Editor(moved, backend="ort-cpu") as editor, Editor(exports.bundle("sd1", precision)) as whole:
            ours, theirs = (e.edit(scene, "x", steps=2, seed=1).image for e in (editor, whole))
            assert np.abs(np.int16(ours) - np.int16(theirs)).max() <= 1


@pytest.mark.parametrize("how", ["sharded", "fp16 variant", "saved in fp16"])
def test_other_ways_of_saving(how: str, exports: Exports, tmp_path: Path) -> None:
    import diffusers
    import torch

    if how == "sharded":
        checkpoint = make_checkpoint("sd1", tmp_path / "it", max_shard_size="200KB")
        assert len(list((checkpoint / "unet").glob("*.safetensors"))) > 1
    elif how == "fp16 variant":
        checkpoint = make_checkpoint("sd1", tmp_path / "it", variant="fp16")
    else:
        checkpoint = shutil.copytree(exports.checkpoint("sd1"), tmp_path / "it")
        vae = diffusers.AutoencoderKL.from_pretrained(checkpoint / "vae").to(torch.float16)
        vae.save_pretrained(checkpoint / "vae")
    report = export(checkpoint, tmp_path / "bundle")
    assert report.manifest.component(Component.VAE_DECODER).check.max_error < 1e-4
    if how != "saved in fp16":
        assert sha256_file(tmp_path / "bundle" / "unet.onnx") == sha256_file(
            exports.bundle("sd1", "fp32") / "unet.onnx"
        )


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
    "NaN weights": (_poison, "decoder.conv_in.weight of vae holds values that are not finite"),
    "a weight missing": (_drop, "decoder.conv_in.weight"),
    "7 channels": (lambda f: _edit_json(f / "unet" / "config.json", in_channels=7), "in_channels 7"),
    "another unet": (lambda f: _edit_json(f / "unet" / "config.json", _class_name="UNet3D"), "the unet is UNet3D"),
    "another vae": (lambda f: _edit_json(f / "vae" / "config.json", _class_name="VQModel"), "the vae is VQModel"),
    "another width": (lambda f: _edit_json(f / "unet" / "config.json", cross_attention_dim=768), "text of width 768"),
    "SDXL": (lambda f: (f / "text_encoder_2").mkdir(), "second text encoder"),
    "class embedding": (
        lambda f: _edit_json(f / "unet" / "config.json", class_embed_type="timestep"),
        "class_embed_type",
    ),
    "prediction": (lambda f: _edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="sample"), "sample"),
    "scheduler": (lambda f: _edit_json(f / "scheduler" / "scheduler_config.json", _class_name="Heun"), "Heun"),
    "text weights missing": (
        lambda f: _drop_from(f / "text_encoder" / "model.safetensors", "final_layer_norm.bias"),
        "final_layer_norm.bias of text_encoder is missing",
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


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_checkpoints(name: str, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    damage(copy_demo(tmp_path / "it"))
    with pytest.raises((CheckpointError, OptionError)) as caught:
        export(tmp_path / "it", tmp_path / "out" / "bundle")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else True


@pytest.mark.parametrize("name", ["nowhere", "owner/name", "a b c", "", "x" * 300, "../x/y"])
def test_what_is_no_checkpoint(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        export(name, tmp_path / "bundle")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["model.ckpt", "model.safetensors"])
def test_single_files_name_the_way_to_convert(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="from_single_file"):
        export(tmp_path / file, tmp_path / "bundle")
    with pytest.raises(CheckpointError):
        export(tmp_path, tmp_path / "bundle")


def test_outputs(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("x")
    demo = exports.checkpoint("demo")
    with pytest.raises(OutputError, match="is a file"):
        export(demo, tmp_path / "file")
    with pytest.raises(OutputError, match="not empty"):
        export(demo, tmp_path / "full")
    with pytest.raises(OutputError, match="is not a bundle"):
        export(demo, tmp_path / "full", overwrite=True)
    with pytest.raises(OutputError, match="cannot write"):
        export(demo, tmp_path / "file" / "bundle")
    assert (tmp_path / "full" / "precious.txt").read_text() == "x"


def test_a_failed_export_leaves_the_old_bundle(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = shutil.copytree(exports.bundle("sd1", "fp32"), tmp_path / "bundle")
    before = {path.name: sha256_file(path) for path in old.iterdir()}
    monkeypatch.setattr("pixrt_export.check.TOLERANCE", {"fp32": 0.0})
    with pytest.raises(ExportMismatch, match="differs from PyTorch by"):
        export(exports.checkpoint("sd1"), old, overwrite=True)
    assert {path.name: sha256_file(path) for path in old.iterdir()} == before
    assert list(tmp_path.iterdir()) == [old]


def test_the_check_sees_a_wrong_weight(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    from pixrt_export import export as export_module

    original = export_module.trace

    def spoiled(network: Any, path: Path) -> None:
        original(network, path)
        if network.component is not Component.VAE_ENCODER:
            return
        model = onnx.load(str(path))
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] += 1
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, str(path))

    monkeypatch.setattr(export_module, "trace", spoiled)
    with pytest.raises(ExportMismatch, match="vae_encoder"):
        export(exports.checkpoint("sd1"), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "int8"},
        {"scheduler": "heun"},
        {"steps": 0},
        {"source_scaling_factor": 0},
        {"guidance_scale": float("nan")},
        {"image_guidance_scale": float("inf")},
        {"guidance_scale": -3},
    ],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ExportOptions(checkpoint="x", output=Path("y"), **wrong)


def test_a_tiny_vae_needs_a_factor(exports: Exports, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--source-scaling-factor"):
        export(exports.checkpoint("tiny_vae"), tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="needs none"):
        export(exports.checkpoint("demo"), tmp_path / "bundle", source_scaling_factor=0.18215)


def test_the_built_in_bundle_is_this_exporters(exports: Exports, tmp_path: Path) -> None:
    """The shipped bundle comes from the shipped checkpoint: same source, same weights to the last bit."""
    shipped = open_bundle("demo").manifest
    defaults = dataclasses.asdict(shipped.defaults)
    report = export(exports.checkpoint("demo"), tmp_path / "demo", name=shipped.name, notice=shipped.notice, **defaults)
    assert report.manifest.source.sha256 == shipped.source.sha256
    assert {name: report.manifest.files[name].sha256 for name in shipped.files} == {
        name: file.sha256 for name, file in shipped.files.items()
    }


def test_the_tokenizers_files_come_along(exports: Exports) -> None:
    bundle = exports.bundle("sd1", "fp32")
    assert (bundle / "merges.txt").read_bytes() == (exports.checkpoint("sd1") / "tokenizer" / "merges.txt").read_bytes()
    assert json.loads((bundle / "vocab.json").read_text()) == json.loads((TOKENIZER / "vocab.json").read_text())


def test_the_same_weights_are_read_wherever_they_stand(tmp_path: Path) -> None:
    from pixrt_export.hub import wanted_files

    hub = [
        "README.md",
        "instruct-pix2pix-00-22000.ckpt",
        "instruct-pix2pix-00-22000.safetensors",
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


def test_the_output_is_swapped_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while the new bundle takes its place, one whole bundle is there afterwards."""
    from pixrt.store import BUILT_IN
    from pixrt_export.output import bundle_folder

    output = tmp_path / "bundle"
    shutil.copytree(BUILT_IN / "demo", output)
    original = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return original(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt), bundle_folder(output, overwrite=True) as folder:
        shutil.copy(BUILT_IN / "demo" / "manifest.json", folder)
    open_bundle(output)
    assert list(tmp_path.iterdir()) == [output]
    monkeypatch.undo()
    with bundle_folder(output, overwrite=True) as folder:
        shutil.copy(BUILT_IN / "demo" / "manifest.json", folder)
    assert [path.name for path in output.iterdir()] == ["manifest.json"]
    assert list(tmp_path.iterdir()) == [output]


def test_what_appears_during_an_export_stays(tmp_path: Path) -> None:
    from pixrt_export.output import bundle_folder

    def work(folder: Path) -> None:
        (folder / "manifest.json").write_text("{}")
        (tmp_path / "it").mkdir()
        (tmp_path / "it" / "thesis.txt").write_text("x")

    with pytest.raises(OutputError, match="not empty"), bundle_folder(tmp_path / "it", overwrite=False) as folder:
        work(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["it", "thesis.txt"]


def test_a_bundle_with_a_users_file_is_not_overwritten(tmp_path: Path) -> None:
    from pixrt.store import BUILT_IN
    from pixrt_export.output import bundle_folder

    shutil.copytree(BUILT_IN / "demo", tmp_path / "it")
    (tmp_path / "it" / "notes.txt").write_text("x")
    with pytest.raises(OutputError, match=r"notes\.txt"), bundle_folder(tmp_path / "it", overwrite=True):
        raise AssertionError


def test_the_current_folder_as_output(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(exports.checkpoint("demo"), Path())
    assert open_bundle(tmp_path / "here").manifest.task == "edit"


def test_a_tiny_vaes_preview_is_in_the_loops_scale(exports: Exports, tmp_path: Path) -> None:
    export(exports.checkpoint("tiny_vae"), tmp_path / "one", source_scaling_factor=1.0)
    one, other = (open_bundle(path).manifest.preview for path in (tmp_path / "one", exports.bundle("tiny_vae", "fp32")))
    # The loop's latents do not depend on what the source latents are divided by.
    np.testing.assert_allclose(one, other, atol=1e-3)
