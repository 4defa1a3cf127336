"""OpenVINO beside ONNX Runtime, with the model `shapes`. What every backend must do is in `test_backends`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from PIL import Image

from contract import arrays
from exported import Exports
from loras import ATTENTION, CONVS, TEXT, lora, write
from pixrt import Editor
from pixrt.backends.protocol import Array, Engine, NewWeight
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt.errors import BackendError, OptionError
from pixrt.options.session import SessionOptions
from shapes import BLUE, QUICK, Run, pixels

BUNDLE = open_bundle("shapes", verify=False)
MOST_ROWS = 24


def open_unet(name: str = "openvino", **options: Any) -> Engine:
    return open_backend(name, BUNDLE, SessionOptions(**options)).backend.open(BUNDLE, Component.UNET)


def rows(count: int) -> dict[str, Array]:
    generator = np.random.default_rng(count)
    return {
        "sample": generator.standard_normal((count, 8, 8, 8)).astype(np.float32),
        "timestep": generator.uniform(1, 999, count).astype(np.float32),
        "encoder_hidden_states": generator.standard_normal((count, 77, 128)).astype(np.float32),
    }


def computed(engine: Engine, given: dict[str, Array], first: int, count: int) -> Array:
    part = {name: values[first : first + count].copy() for name, values in given.items()}
    result = np.zeros((count, 4, 8, 8), np.float32)
    engine.bind(part | {"out_sample": result})()
    return result


def edit(editor: Editor, scene: Image.Image) -> Any:
    return pixels(editor.edit(scene, BLUE, **QUICK).image)


class TestInFp32:
    def test_a_network_computes_what_onnx_runtime_does(self) -> None:
        given = rows(3)
        ours, theirs = (computed(open_unet(name, threads=1), given, 0, 3) for name in ("openvino", "ort-cpu"))
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())

    def test_an_edit_is_that_of_onnx_runtime(self, editor: Editor, scene: Image.Image) -> None:
        with Editor("shapes", backend="openvino", threads=2) as other:
            assert np.abs(edit(other, scene) - edit(editor, scene)).max() <= 1

    @pytest.mark.torch
    @pytest.mark.parametrize("fused_step", [False, True])
    def test_a_bundle_in_fp16(self, exports: Exports, scene: Image.Image, fused_step: bool) -> None:
        """Computed in FP32 between its inputs and outputs, where ONNX Runtime rounds every layer to FP16."""
        found = []
        for backend in ("openvino", "ort-cpu"):
            folder = exports.bundle("sd1", "fp16")
            with Editor(folder, backend=backend, threads=1, fused_step=fused_step) as opened:
                found.append(edit(opened, scene))
        ours, theirs = found
        assert np.abs(ours - theirs).max() <= 2
        assert theirs.std() > 20


class TestPrecision:
    def test_bf16_is_near_fp32_or_refused(self) -> None:
        """By the processor: OpenVINO itself would compute in FP32 in silence where there is no BF16."""
        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            with pytest.raises(BackendError, match="does not compute in BF16") as caught:
                open_unet(cpu_precision="bf16")
            assert "--cpu-precision" in caught.value.remedy
            return
        given = rows(2)
        exact, rounded = (computed(open_unet(cpu_precision=name), given, 0, 2) for name in ("fp32", "bf16"))
        assert 0 < np.abs(rounded - exact).mean() < 0.05 * exact.std()

    def test_what_openvino_is_told_where_there_is_bf16(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[dict[str, Any]] = []

        class Core(openvino.Core):
            def get_property(self, device: str, name: str) -> Any:
                return ["FP32", "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, name)

            def compile_model(self, model: Any, device: str, settings: Any) -> Any:
                told.append(dict(settings))
                return super().compile_model(model, device, settings)

        monkeypatch.setattr(openvino, "Core", Core)
        open_unet()
        open_unet(cpu_precision="bf16", threads=2)
        assert [settings["INFERENCE_PRECISION_HINT"] for settings in told] == ["f32", "bf16"]
        assert [settings.get("INFERENCE_NUM_THREADS") for settings in told] == [None, 2]

    def test_an_unknown_one(self) -> None:
        with pytest.raises(OptionError, match="cpu_precision is 'int8'"):
            open_unet(cpu_precision="int8")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_reach_the_network(threads: int) -> None:
    engine: Any = open_unet(threads=threads)
    assert engine._compiled.get_property("INFERENCE_NUM_THREADS") == threads


class TestOtherWeights:
    """Those of the UNet stand outside its graph's file, those of the text encoder inside."""

    def test_loras(self, scene: Image.Image, tmp_path: Path) -> None:
        weights = lora([*ATTENTION, *CONVS], size=0.1) | lora(TEXT, part="text_encoder", seed=2, size=0.1)
        file = write(tmp_path / "style.safetensors", weights)
        made = []
        for backend in ("openvino", "ort-cpu"):
            with Editor("shapes", backend=backend, threads=2) as opened:
                plain = edit(opened, scene)
                opened.set_loras([file])
                with_lora = edit(opened, scene)
                opened.set_loras([])
                np.testing.assert_array_equal(edit(opened, scene), plain)
            assert np.abs(with_lora - plain).max() > 20
            made.append(with_lora)
        assert np.abs(made[0] - made[1]).max() <= 1

    @pytest.mark.parametrize(
        ("name", "shape", "dtype"),
        [
            ("conv_in.weight", (320, 8, 3, 3), np.float32),
            ("conv_in.weight", (64, 8, 3, 3), np.float16),
            ("no.weight", (1,), np.float32),
        ],
    )
    def test_a_weight_that_is_not_there(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        backend = open_backend("openvino", BUNDLE).backend
        weight = NewWeight(name, "unet.onnx_data", 0, np.zeros(shape, dtype))
        with pytest.raises(BackendError, match=f"unet.onnx has no weight {name}"):
            backend.open(BUNDLE, Component.UNET, [weight])


def test_an_output_that_is_too_large() -> None:
    engine = open_backend("openvino", BUNDLE).backend.open(BUNDLE, Component.VAE_DECODER)
    run = engine.bind(arrays(1, 3, 5) | {"sample": np.zeros((1, 3, 12, 24), np.float32)})
    with pytest.raises(BackendError, match=r"sample came out as \[1, 3, 12, 20\], not \[1, 3, 12, 24\]"):
        run()


class TestOnTheCommandLine:
    def test_an_edit(self, run: Run) -> None:
        words = ("edit", "scene.png", BLUE, "-o", "out.png", "--steps", 1, "--backend", "openvino", "--json")
        outcome = run(*words, "--cpu-precision", "fp32", "--threads", 1)
        assert json.loads(outcome.out)["backend"] == "openvino"

    def test_precision_of_another_backend(self, run: Run) -> None:
        outcome = run("edit", "scene.png", BLUE, "-o", "o.png", "--backend", "ort-cpu", "--cpu-precision", "bf16")
        assert outcome.code == 2
        assert "a CPU precision is given for the backend ort-cpu. Choose openvino" in outcome.err

    def test_without_the_package(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openvino", None)
        outcome = run("edit", "scene.png", BLUE, "-o", "out.png", "--backend", "openvino")
        assert outcome.code == 6
        assert "openvino is not installed. Install it: `pip install 'pixrt[openvino]'`" in outcome.err
