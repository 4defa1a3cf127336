"""LoRA on bundles of every precision: the run is the merged export, and the table of weights holds every layer."""

from pathlib import Path

import numpy as np
import pytest

from exported import Exports
from peft_loras import export, make_lora, outputs
from pixrt import Editor, LoraError
from pixrt.bundles.store import open_bundle
from pixrt.lora.weights import read_table, read_weight

pytest.importorskip("peft")
# peft warns of patterns that one of the two networks has no layer for, and of a second LoRA.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:::peft")]


@pytest.mark.parametrize(
    ("kind", "precision", "outside"),
    [
        pytest.param("sd1", "fp16", False, marks=pytest.mark.slow),
        pytest.param("sd2", "fp16-weights", True, marks=pytest.mark.slow),
        pytest.param("sd2", "fp16-weights", False, marks=pytest.mark.slow),
        pytest.param("sd1", "fp32", True, marks=pytest.mark.slow),
    ],
)
def test_every_precision_and_place_of_the_weights(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, precision: str, outside: bool
) -> None:
    """FP16 bundles hold rounded weights; with a base that FP16 can hold, the run is the merged export there too."""
    from pixrt_export import tracing, weights

    if outside:
        monkeypatch.setattr(tracing, "EXTERNAL_ABOVE_BYTES", 0)
    monkeypatch.setattr(weights, "SMALLEST", dict.fromkeys(weights.SMALLEST, 64))
    checkpoint = _rounded(exports.checkpoint(kind), tmp_path / "checkpoint")
    file = make_lora(checkpoint, tmp_path / "lora", seed=4)
    plain = export(checkpoint, tmp_path / "plain", precision=precision)
    merged = export(checkpoint, tmp_path / "merged", precision=precision, loras=((file, 0.5),))
    assert (plain / "unet.onnx_data").exists() == outside
    for backend in ("ort-cpu", "openvino"):
        with Editor(merged, backend=backend) as one, Editor(plain, backend=backend, loras=[(file, 0.5)]) as other:
            for expected, found in zip(outputs(one), outputs(other), strict=True):
                np.testing.assert_array_equal(found, expected)
            with_lora = outputs(other)
            other.set_loras([])
            without = outputs(other)
            other.set_loras([(file, 0.5)])
            for before, none, after in zip(with_lora, without, outputs(other), strict=True):
                assert not np.array_equal(before, none)
                np.testing.assert_array_equal(before, after)


def _rounded(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with weights that FP16 holds exactly."""
    import diffusers
    import torch

    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(checkpoint, safety_checker=None)
    pipeline.to(torch.float16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("sd1", "fp32"),
        ("sd1", "fp16"),
        pytest.param("sd2", "fp16-weights", marks=pytest.mark.slow),
        ("tiny_vae", "fp16"),
        ("inpainting", "fp32"),
    ],
)
def test_the_table_holds_every_layer(exports: Exports, kind: str, precision: str) -> None:
    import torch

    from pixrt_export.opening import open_checkpoint

    bundle = open_bundle(exports.bundle(kind, precision))
    table, checkpoint = read_table(bundle), open_checkpoint(str(exports.checkpoint(kind)))
    assert table.keys() == {"text_encoder", "unet", "unet_step"}
    for part, places in table.items():
        part = "unet" if part == "unet_step" else part
        layers = {
            f"{name}.weight": layer.weight.detach().numpy()
            for name, layer in checkpoint.load(part).named_modules()
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
        }
        assert places.keys() == layers.keys()
        for name, place in places.items():
            stored = read_weight(bundle.folder, place)
            np.testing.assert_array_equal(stored, layers[name].astype(stored.dtype))


@pytest.mark.slow
def test_a_shared_weight_is_refused(exports: Exports, tmp_path: Path) -> None:
    """Two layers of equal weights are one initializer after tracing: one cannot be changed without the other."""
    import diffusers
    import torch

    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        exports.checkpoint("sd1"), safety_checker=None
    )
    attention = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    with torch.no_grad():
        attention.to_q.weight.copy_(attention.to_k.weight)
    pipeline.save_pretrained(tmp_path / "checkpoint")
    file = make_lora(tmp_path / "checkpoint", tmp_path / "lora", seed=5, text=False)
    bundle = export(tmp_path / "checkpoint", tmp_path / "bundle")
    with pytest.raises(LoraError, match=r"to_q.*to_k.*have the same weight"):
        Editor(bundle, loras=[file])
    export(tmp_path / "checkpoint", tmp_path / "merged", loras=(file,))
