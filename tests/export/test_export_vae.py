"""Exports that are not the checkpoint as it stands: with another VAE, and without the source of an edit."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import KINDS, TINY_VAE, VAE
from exported import Exports
from kept import writable_copy
from loras import write
from pixrt import Editor
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle, open_bundle
from pixrt.errors import CheckpointError
from pixrt.lora.merging import merge
from pixrt.lora.weights import read_table, read_weight
from pixrt_export import ExportOptions, export_checkpoint
from shapes import Run

pytestmark = pytest.mark.torch

FACTOR = 0.18215
WEIGHTS = "diffusion_pytorch_model.safetensors"
Array = np.ndarray[Any, Any]


def export(checkpoint: Path, output: Path, **options: Any) -> Bundle:
    given = ExportOptions(checkpoint=str(checkpoint), output=output, **options)
    export_checkpoint(given, on_progress=lambda stage: None)
    return open_bundle(output)


def open_with(checkpoint: Path, **options: Any) -> Any:
    from pixrt_export.opening import open_checkpoint

    return open_checkpoint(str(checkpoint), **{key: str(value) for key, value in options.items()})


def save_vae(folder: Path, *, seed: int = 7, **changes: Any) -> Path:
    """A random VAE, tiny where the changes name none of AutoencoderKL's settings."""
    import diffusers
    import torch

    torch.manual_seed(seed)
    kl = "block_out_channels" in changes
    vae = diffusers.AutoencoderKL(**changes) if kl else diffusers.AutoencoderTiny(**TINY_VAE | changes)
    vae.save_pretrained(folder)
    return folder


def load_vae(folder: Path) -> Any:
    import diffusers

    name = json.loads((folder / "config.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder)


def output(bundle: Bundle, component: Component, **feeds: Array) -> Array:
    import onnxruntime

    (found,) = onnxruntime.InferenceSession(str(bundle.file(component))).run(None, feeds)
    return np.asarray(found)


@pytest.fixture(scope="module")
def tiny(exports: Exports) -> Path:
    """A VAE alone, as the hub has TAESD."""
    return exports.other("vae", lambda folder: save_vae(folder / "tiny")) / "tiny"


@pytest.fixture(scope="module")
def swapped(exports: Exports, tiny: Path) -> Bundle:
    """An edit checkpoint, its AutoencoderKL replaced."""
    made = exports.other("swapped", lambda folder: export(exports.checkpoint("sd1"), folder, vae=str(tiny)))
    return open_bundle(made)


@pytest.mark.parametrize("whose", ["another", "its own"])
def test_a_tiny_vaes_graphs_are_those_of_unscaled_latents(
    exports: Exports, tiny: Path, swapped: Bundle, whose: str
) -> None:
    import torch

    if whose == "another":
        bundle, vae = swapped, load_vae(tiny)
    else:
        bundle = open_bundle(exports.bundle("tiny_vae", "fp32"))
        vae = load_vae(exports.checkpoint("tiny_vae") / "vae")
    assert bundle.manifest.latents.scaling == FACTOR
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 64)).astype(np.float32)
    with torch.no_grad():
        latents = vae.encode(torch.from_numpy(pixels)).latents  # scaled: the loop's
        expected = vae.decode(latents).sample.numpy()
    found = output(bundle, Component.VAE_ENCODER, sample=pixels)
    np.testing.assert_allclose(found * FACTOR, latents.numpy(), atol=1e-4 * float(latents.abs().max()))
    found = output(bundle, Component.VAE_DECODER, latent_sample=latents.numpy() / np.float32(FACTOR))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_preview_maps_the_loops_latents(tiny: Path, swapped: Bundle) -> None:
    import torch

    from pixrt_export.preview import _pictures

    vae, target, rows = load_vae(tiny), [], []
    for picture in _pictures(128):
        with torch.no_grad():
            rows.append(vae.encode(torch.from_numpy(picture[None])).latents[0].reshape(4, -1).numpy().T)
        target.append(picture.reshape(3, 16, 8, 16, 8).mean((2, 4)).reshape(3, -1).T)
    latents, colours = np.concatenate(rows), np.concatenate(target)
    preview = np.array(swapped.manifest.preview)

    def error(scale: float) -> float:
        return float(np.square(scale * latents @ preview[:-1] + preview[-1] - colours).mean())

    assert error(1.0) < min(error(FACTOR), error(0.9), error(1.1))


def test_an_edit_with_another_vae_is_diffusers(exports: Exports, tiny: Path, swapped: Bundle) -> None:
    """diffusers gives a tiny autoencoder's scaled latents to the UNet; told not to, it makes the same picture."""
    parity = pytest.importorskip("parity")
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput

    pipeline, vae = parity.load_pipeline(exports.checkpoint("sd1")), load_vae(tiny)
    encode, decode = vae.encode, vae.decode
    vae.encode = lambda pixels: AutoencoderTinyOutput(encode(pixels).latents / FACTOR)
    vae.decode = lambda latents, **options: decode(latents * FACTOR, **options)
    vae.register_to_config(scaling_factor=FACTOR)
    pipeline.vae = vae
    with Editor(swapped.folder, backend="ort-cpu", threads=2) as editor:
        found = parity.compare(pipeline, editor, parity.Case("dpmpp_2m", 5, (80, 64), 2, (7.5, 1.5)))
    assert found.latents <= parity.LATENTS_TOLERANCE
    assert found.picture <= parity.PICTURE_TOLERANCE


def test_a_checkpoints_vae_replaces_another(exports: Exports, tmp_path: Path) -> None:
    folder = save_vae(tmp_path / "finetuned" / "vae", **VAE)
    checkpoint = open_with(exports.checkpoint("sd1"), vae=tmp_path / "finetuned")
    assert (checkpoint.other_vae.id, checkpoint.scaling_factor) == ("finetuned", FACTOR)
    found, expected = checkpoint.load("vae").state_dict(), load_vae(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(found[name].equal(value) for name, value in expected.items())
    own = open_with(exports.checkpoint("sd1")).load("vae").state_dict()
    assert not all(found[name].equal(value) for name, value in own.items())


def test_the_identity_is_that_of_the_files_in_use(
    exports: Exports, tiny: Path, swapped: Bundle, tmp_path: Path
) -> None:
    own, source = exports.checkpoint("sd1"), swapped.manifest.source
    plain = open_with(own).sha256()
    assert (source.id, source.vae) == ("sd1", "tiny")
    assert source.sha256 != plain
    assert open_with(own, vae=own / "vae").sha256() == plain
    made = writable_copy(own, tmp_path / "made")
    shutil.rmtree(made / "vae")
    writable_copy(tiny, made / "vae")
    assert open_with(made).sha256() == source.sha256


def test_the_replaced_vaes_weights_are_not_needed(exports: Exports, tiny: Path, tmp_path: Path) -> None:
    checkpoint = writable_copy(exports.checkpoint("sd1"), tmp_path / "it")
    (checkpoint / "vae" / WEIGHTS).unlink()
    assert open_with(checkpoint, vae=tiny).load("vae").config.latent_channels == 4
    with pytest.raises(CheckpointError, match="the vae of it has no"):
        open_with(checkpoint)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("kind", "vae", "given", "expected"),
    [
        ("sd1", None, None, (FACTOR, 1)),
        ("sd1", 1.0, None, (FACTOR, FACTOR)),
        ("sd1", 1.0, 0.2, (0.2, 0.2)),
        ("inpainting", 1.0, None, (FACTOR, FACTOR)),
        ("tiny_vae", None, 0.2, (0.2, 0.2)),
        ("tiny_vae", 1.0, 0.2, (0.2, 0.2)),
        # One that diffusers itself scales: what it encodes to is unscaled already.
        ("sd1", FACTOR, None, (FACTOR, 1)),
        ("tiny_vae", 0.5, None, (0.5, 1)),
        ("tiny_vae", None, None, None),
        ("tiny_vae", 1.0, None, None),
    ],
)
def test_the_factor_is_the_replaced_vaes(
    exports: Exports, tmp_path: Path, kind: str, vae: float | None, given: float | None, expected: Any
) -> None:
    from pixrt_export.components import Scaling, scaling_of

    options = {} if vae is None else {"vae": save_vae(tmp_path / "tiny", scaling_factor=vae)}
    checkpoint = open_with(exports.checkpoint(kind), **options)
    if expected is None:
        with pytest.raises(CheckpointError, match="--source-scaling-factor"):
            scaling_of(checkpoint, given)
    else:
        assert scaling_of(checkpoint, given) == Scaling(*expected)


def test_without_a_source_no_factor_is_needed(exports: Exports, tmp_path: Path) -> None:
    from pixrt_export.components import Scaling, scaling_of

    checkpoint = writable_copy(exports.checkpoint("tiny_vae"), tmp_path / "it")
    edit_json(checkpoint / "unet" / "config.json", in_channels=4)
    assert scaling_of(open_with(checkpoint), None) == Scaling(1.0, 1.0)
    with pytest.raises(CheckpointError, match="needs none"):
        scaling_of(open_with(exports.checkpoint("sd1")), FACTOR)


def test_a_kl_may_replace_a_tiny_one(exports: Exports, tmp_path: Path) -> None:
    from pixrt_export.components import Scaling, scaling_of

    checkpoint = open_with(exports.checkpoint("tiny_vae"), vae=save_vae(tmp_path / "kl", **VAE))
    assert scaling_of(checkpoint, None) == Scaling(FACTOR)


def poison(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    weights["encoder.layers.0.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, folder / WEIGHTS)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (shutil.rmtree, "is neither a folder nor a hub id"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no VAE: it has neither config.json nor vae/config"),
    "config that is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
    "config that is a list": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    "not a VAE": (lambda f: edit_json(f / "config.json", _class_name="VQModel"), "is VQModel"),
    "no latents": (lambda f: edit_json(f / "config.json", latent_channels="x"), "has a value that cannot be"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "the vae of a vae has no diffusion_pytorch_model.safetensors"),
    "a pickle": (lambda f: (f / WEIGHTS).rename(f / "diffusion_pytorch_model.bin"), "`AutoencoderKL.from_single_file"),
    "cut weights": (lambda f: os.truncate(f / WEIGHTS, 5000), "the vae of a vae cannot be loaded"),
    "NaN weights": (poison, "encoder.layers.0.weight of the vae of a vae holds values that are not finite"),
    "of another width": (
        lambda f: edit_json(f / "config.json", encoder_block_out_channels=[4] * 4),
        "the vae of a vae",
    ),
    "other latents": (lambda f: edit_json(f / "config.json", latent_channels=16), "latent_channels 16, the checkpoint"),
    "other scale": (
        lambda f: edit_json(f / "config.json", encoder_block_out_channels=[8] * 3),
        "pixels per latent 4, the checkpoint's own 8",
    ),
    "another factor": (
        lambda f: save_vae(f, **VAE | {"scaling_factor": 0.13025}),
        "scaling_factor 0.13025, the checkpoint's own 0.18215",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_vaes_that_do_not_fit(name: str, exports: Exports, tiny: Path, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    vae = writable_copy(tiny, tmp_path / "a vae")
    damage(vae)
    with pytest.raises(CheckpointError) as caught:
        open_with(exports.checkpoint("sd1"), vae=vae).load("vae")
    assert words in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_pickled_vae_only_when_asked_for(exports: Exports, tiny: Path, tmp_path: Path) -> None:
    load_vae(tiny).save_pretrained(tmp_path / "it", safe_serialization=False)
    with pytest.raises(CheckpointError, match=r"the weights of the vae of it are a pickle .*--allow-pickle"):
        open_with(exports.checkpoint("sd1"), vae=tmp_path / "it")
    assert open_with(exports.checkpoint("sd1"), vae=tmp_path / "it", allow_pickle=True).load("vae")


def test_a_single_file_names_the_way_to_convert(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "vae.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"AutoencoderKL\.from_single_file"):
        open_with(exports.checkpoint("sd1"), vae=tmp_path / "vae.safetensors")


def test_of_a_repository_the_vae_alone_is_downloaded() -> None:
    from pixrt_export.hub import wanted_vae_files

    alone = ["README.md", "config.json", WEIGHTS, "diffusion_pytorch_model.bin", "taesd_decoder.safetensors"]
    assert set(wanted_vae_files(alone, False)) == {"config.json", WEIGHTS}
    whole = ["model_index.json", f"unet/{WEIGHTS}", "unet/config.json", "vae/config.json", f"vae/{WEIGHTS}"]
    assert set(wanted_vae_files(whole, False)) == {"vae/config.json", f"vae/{WEIGHTS}"}
    pickled = ["vae/config.json", "vae/diffusion_pytorch_model.bin"]
    assert wanted_vae_files(pickled, True) == pickled
    assert wanted_vae_files([*pickled, "vae/x.bin"], False) == ["vae/config.json"]


def test_the_command_line_names_the_vae(exports: Exports, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("export", exports.checkpoint("shapes"), "-o", "bundle", "--vae", "empty")
    assert outcome.code != 0
    assert "empty holds no VAE" in outcome.err
    outcome = run("export", exports.checkpoint("text_to_image"), "-o", "bundle", "--without-source")
    assert "Export it without --without-source" in " ".join(outcome.err.split())


def conv_in_lora(folder: Path) -> Path:
    """A LoRA on the layer that takes the source."""
    width, generator = KINDS["sd1"].get("unet", {}).get("block_out_channels", (16,))[0], np.random.default_rng(4)
    shapes = {"lora_A": (2, 8, 3, 3), "lora_B": (width, 2, 1, 1)}
    tensors = {
        f"unet.conv_in.{name}.weight": generator.standard_normal(shape).astype(np.float32) / 5
        for name, shape in shapes.items()
    }
    return write(folder / "lora.safetensors", tensors)


@pytest.mark.parametrize(
    ("precision", "lora"), [("fp32", False), ("fp32", True), pytest.param("fp16", True, marks=pytest.mark.slow)]
)
def test_without_a_source_the_network_is_that_of_a_source_of_zeros(
    exports: Exports, tmp_path: Path, precision: str, lora: bool
) -> None:
    import diffusers
    import torch

    from pixrt_export.layers import layer_shapes

    checkpoint, loras = exports.checkpoint("sd1"), ((conv_in_lora(tmp_path), 0.7),) if lora else ()
    unet = diffusers.UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    if lora:
        from pixrt.lora.merging import load_loras

        factors = load_loras(loras, layer_shapes(open_with(checkpoint)), "it").factors["unet"]["conv_in.weight"]
        whole = unet.conv_in.weight.detach().numpy()
        merged = merge("conv_in.weight", whole, factors)
        assert np.abs(merged - whole)[:, :4].max() > 0.1
        unet.conv_in.weight.data = torch.from_numpy(merged)
    given: dict[str, Any] = {"without_source": True, "fused_step": True, "loras": loras, "precision": precision}
    name = f"cut-{precision}{'-lora' if lora else ''}"
    bundle = open_bundle(exports.other(name, lambda folder: export(checkpoint, folder, **given)))
    manifest = bundle.manifest
    assert (manifest.unet_in_channels, manifest.task) == (4, "generate")
    assert "source" not in {tensor.name for tensor in manifest.component(Component.UNET_STEP).inputs}
    half = np.float16 if precision == "fp16" else np.float32
    generator = np.random.default_rng(1)
    sample = generator.standard_normal((2, 4, 9, 12)).astype(np.float32)
    text = generator.standard_normal((2, 77, unet.config.cross_attention_dim)).astype(np.float32)
    timestep = np.array([3.5, 998], np.float32)
    with torch.no_grad():
        whole = torch.from_numpy(np.concatenate([sample, np.zeros_like(sample)], 1))
        expected = unet(whole, torch.from_numpy(timestep), torch.from_numpy(text)).sample.numpy()
    feeds = {"sample": sample.astype(half), "timestep": timestep, "encoder_hidden_states": text.astype(half)}
    found = output(bundle, Component.UNET, **feeds)
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    for component in (Component.UNET, Component.UNET_STEP):
        # So a LoRA for a text-to-image network finds its place there, and one for four more channels is refused.
        place = read_table(bundle)[component]["conv_in.weight"]
        weight = unet.conv_in.weight.detach().numpy()[:, :4].astype(half)
        np.testing.assert_array_equal(read_weight(bundle.folder, place), weight)


@pytest.mark.parametrize("kind", ["text_to_image", "inpainting"])
def test_only_an_edit_checkpoint_is_cut(exports: Exports, tmp_path: Path, kind: str) -> None:
    with pytest.raises(CheckpointError, match=r"in_channels [49], .*an edit checkpoint's 8 .*--without-source"):
        export(exports.checkpoint(kind), tmp_path / "bundle", without_source=True)


def test_without_a_source_it_is_another_checkpoint(exports: Exports, tiny: Path) -> None:
    from pixrt_export.opening import open_checkpoint

    checkpoint = str(exports.checkpoint("sd1"))
    every = [
        open_checkpoint(checkpoint, vae=vae, without_source=cut).sha256()
        for vae in (None, str(tiny))
        for cut in (False, True)
    ]
    assert len(set(every)) == 4
