"""Export: every kind of checkpoint becomes a bundle that computes what PyTorch computes."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import DATA, TOKENIZER
from exported import Exports
from pixrt import Editor
from pixrt.bundles.manifest import NETWORKS, Component
from pixrt.bundles.store import open_bundle, sha256_file
from pixrt.errors import ExportMismatch, OptionError
from pixrt_export import ExportOptions, export_checkpoint

pytestmark = pytest.mark.torch


EVERY = [
    ("sd1", "fp32"),
    ("sd1", "fp16"),
    ("sd2", "fp32"),
    pytest.param("sd2", "fp16-weights", marks=pytest.mark.slow),
    ("text_to_image", "fp32"),
    ("inpainting", "fp32"),
    pytest.param("tiny_vae", "fp32", marks=pytest.mark.slow),
    ("tiny_vae", "fp16"),
    ("photo", "fp32"),
    pytest.param("photo", "fp16", marks=pytest.mark.slow),
]


FACTS = {
    "sd1": ("edit", 8, "epsilon", 0.18215),
    "sd2": ("edit", 8, "v", 0.18215),
    "text_to_image": ("generate", 4, "epsilon", 0.18215),
    "inpainting": ("inpaint", 9, "epsilon", 0.18215),
    "tiny_vae": ("edit", 8, "epsilon", 0.18215),
    "photo": ("edit", 16, "v", 2.5),
}


def export(checkpoint: Path | str, output: Path, **options: Any) -> Any:
    given = ExportOptions(checkpoint=str(checkpoint), output=output, **options)
    return export_checkpoint(given, on_progress=lambda stage: None)


@pytest.mark.parametrize(("kind", "precision"), EVERY)
def test_a_bundle_says_what_the_checkpoint_says(exports: Exports, kind: str, precision: str) -> None:
    import onnx

    bundle = open_bundle(exports.bundle(kind, precision))
    manifest = bundle.manifest
    facts = (manifest.task, manifest.unet_in_channels, manifest.prediction, manifest.latents.scaling)
    assert facts == FACTS[kind]
    scale = 2 if kind == "photo" else 8
    assert (manifest.precision, manifest.native_resolution, manifest.latents.scale) == (precision, 8 * scale, scale)
    assert (manifest.defaults.scheduler, manifest.defaults.steps) == ("euler_ancestral", 100)
    assert manifest.tokenizers[0].pad_token == ("!" if kind == "sd2" else "<|endoftext|>")
    half = "float16" if precision == "fp16" else "float32"
    inputs = manifest.component(Component.UNET).inputs
    assert [(tensor.name, tensor.dtype) for tensor in inputs] == [
        ("sample", half),
        ("timestep", "float32"),
        ("encoder_hidden_states", half),
    ]
    assert inputs[1].shape == ("batch",)
    assert inputs[0].shape == ("batch", manifest.unet_in_channels, "height", "width")
    every = {*NETWORKS, Component.UNET_STEP} | ({Component.VAE_DECODER_FP32} if precision == "fp16" else set())
    assert manifest.components.keys() == every
    for component in every:
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


@pytest.mark.parametrize("kind", ["sd1", "sd2", "tiny_vae", "photo"])
def test_source_latents_are_the_unscaled_mean(exports: Exports, kind: str) -> None:
    import diffusers
    import onnxruntime
    import torch

    bundle = open_bundle(exports.bundle(kind, "fp32"))
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 64)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(str(bundle.file(Component.VAE_ENCODER))).run(None, {"sample": pixels})
    is_tiny = kind in ("tiny_vae", "photo")
    vae_class = diffusers.AutoencoderTiny if is_tiny else diffusers.AutoencoderKL
    vae = vae_class.from_pretrained(exports.checkpoint(kind) / "vae")
    with torch.no_grad():
        encoded = vae.encode(torch.from_numpy(pixels))
    # A tiny autoencoder encodes to scaled latents if its own config says 1.
    expected = encoded.latents if is_tiny else encoded.latent_dist.mean
    if kind == "tiny_vae":
        expected = expected / 0.18215
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "precision"), [("sd1", "fp16"), EVERY[3], ("tiny_vae", "fp16")])
def test_other_precisions_edit_alike(exports: Exports, kind: str, precision: str, scene: Any) -> None:
    images = []
    for each in ("fp32", precision):
        with Editor(exports.bundle(kind, each), backend="ort-cpu") as editor:
            images.append(np.int16(editor.edit(scene, "make it winter", steps=3, seed=1).image))
    # Random weights, so the picture is noise of full range; rounding to 11 bits moves it by some grey levels.
    assert np.abs(images[0] - images[1]).mean() < 3


def test_bundles_for_other_tasks_open_but_do_not_edit(exports: Exports) -> None:
    for kind, words in (("text_to_image", "text-to-image"), ("inpainting", "inpainting")):
        with Editor(exports.bundle(kind, "fp32"), backend="null") as editor, pytest.raises(OptionError, match=words):
            editor.edit(np.zeros((64, 64, 3), np.uint8), "make it winter")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_two_exports_are_byte_for_byte_alike(exports: Exports, tmp_path: Path, precision: Any) -> None:
    first, second = exports.bundle("sd1", precision), tmp_path / "second"
    export(exports.checkpoint("sd1"), second, precision=precision, name=first.name, fused_step=True)
    for path in first.iterdir():
        assert sha256_file(path) == sha256_file(second / path.name), path.name


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
        {"precision": "int4"},
        {"scheduler": "heun"},
        {"steps": 0},
        {"source_scaling_factor": 0},
        {"source_scaling_factor": float("inf")},
        {"guidance_scale": float("nan")},
        {"image_guidance_scale": float("inf")},
        {"guidance_scale": -3},
    ],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ExportOptions(checkpoint="x", output=Path("y"), **wrong)


@pytest.mark.parametrize(("name", "checkpoint"), [("demo", "photo_checkpoint"), ("shapes", "shapes_checkpoint")])
def test_a_built_in_bundle_is_this_exporters(name: str, checkpoint: str, tmp_path: Path) -> None:
    """A shipped bundle comes from its shipped checkpoint: same source, same weights to the last bit.

    Its files follow the umask and name no machine.
    """
    shipped = open_bundle(name).manifest
    kept = {"name": shipped.name, "defaults_from": name}
    report = export(DATA / checkpoint, tmp_path / name, compact=True, **kept)
    assert dataclasses.replace(report.manifest, components=shipped.components, tools=shipped.tools) == shipped
    assert report.manifest.source.sha256 == shipped.source.sha256
    assert {file: report.manifest.files[file].sha256 for file in shipped.files} == {
        file: entry.sha256 for file, entry in shipped.files.items()
    }
    bundle, mask = tmp_path / name, os.umask(0)
    os.umask(mask)
    for path in bundle.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path.name
        content = path.read_bytes()
        for secret in (str(tmp_path), str(Path.home()) + "/", str(Path(__file__).parent)):
            assert secret.encode() not in content
    assert bundle.stat().st_mode & 0o777 == 0o777 & ~mask


def test_the_tokenizers_files_come_along(exports: Exports) -> None:
    bundle = exports.bundle("sd1", "fp32")
    assert (bundle / "merges.txt").read_bytes() == (exports.checkpoint("sd1") / "tokenizer" / "merges.txt").read_bytes()
    assert json.loads((bundle / "vocab.json").read_text()) == json.loads((TOKENIZER / "vocab.json").read_text())


def test_a_tiny_vaes_preview_is_in_the_loops_scale(exports: Exports) -> None:
    checkpoint = exports.checkpoint("tiny_vae")
    made = exports.other("unscaled", lambda folder: export(checkpoint, folder, source_scaling_factor=1.0))
    one, other = (open_bundle(path).manifest.preview for path in (made, exports.bundle("tiny_vae", "fp32")))
    # The loop's latents do not depend on what the source latents are divided by.
    np.testing.assert_allclose(one, other, atol=1e-3)
