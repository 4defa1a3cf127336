"""What TensorRT-RTX makes of the built-in UNet in FP16, without a GPU: fused attentions and norms, layers, bytes.

A change of the export that costs a fusion fails here, and nowhere else where there is no GPU.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.bundles.manifest import Component
from pixrt.bundles.store import BUILT_IN, open_bundle

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorrt_rtx")
pytestmark = pytest.mark.torch

SHAPES = BUILT_IN / "shapes"
SCRIPT = Path(__file__).parent.parent / "support" / "rtx_layers.py"
LAYERS = 255  # of RTX 1.7.1 in November 2026
MIB = 1 << 20


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in UNet in FP16 arithmetic."""
    from pixrt_export.precision import to_fp16

    folder = tmp_path_factory.mktemp("half")
    bundle = open_bundle("shapes")
    with bundle.loading(Component.UNET) as path:
        onnx.save(onnx.load(str(path)), str(folder / "single.onnx"))
    sizes = {"batch": 3, "height": 16, "width": 16, "tokens": bundle.manifest.tokenizers[0].max_length}
    generator = np.random.default_rng(0)
    feeds = {
        tensor.name: generator.standard_normal(
            [size if isinstance(size, int) else sizes[size] for size in tensor.shape]
        ).astype(np.float32)
        for tensor in bundle.manifest.component(Component.UNET).inputs
    }
    feeds["timestep"] = np.array([999, 500, 10], np.float32)
    to_fp16(folder / "single.onnx", folder / "unet.onnx", [feeds])
    return folder / "unet.onnx"


@cache
def build(unet: Path, *words: str) -> dict[str, Any]:
    """In a process of its own, as the library must not share one with a simulated driver."""
    command = [sys.executable, str(SCRIPT), str(SHAPES), "unet", str(unet), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_fusions_and_layers(unet: Path) -> None:
    found = build(unet, "--sizes", "64x64")
    names = [layer["name"] for layer in found["layers"]]
    assert found["softmaxes"] == 14
    assert found["attentions"] == {"all": 14, "in_fp32": 0}
    assert sum("_gemm_mha" in name for name in names) == found["softmaxes"]
    assert sum("Gnor" in name for name in names) == found["norms"] == 30  # a norm is one kernel,
    assert sum("SiluGnor" in name for name in names) == 23  # with its activation where it has one
    assert len(names) <= LAYERS
    assert found["bytes"] < unet.stat().st_size + 12 * MIB


def test_a_further_profile_has_no_weights_of_its_own(unet: Path) -> None:
    one = build(unet, "--sizes", "64x64")
    four = build(unet, "--sizes", "64x64,128x64,64x128", "--batch", "1-4")
    assert (one["profiles"], four["profiles"]) == (1, 4)
    assert 0 < (four["bytes"] - one["bytes"]) / 3 < 14 * MIB
