"""INT8: the graph surgery against NumPy, calibration on the training side only, and bundles that run on every CPU."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from exported import Exports
from pixrt import Editor, OptionError
from pixrt.bundles.manifest import Component, parse_manifest
from pixrt.bundles.store import open_bundle
from pixrt.errors import DataError, LoraError, PackageMissing
from pixrt_export import ExportOptions, export_checkpoint
from shapes import Run
from stored_data import samples, write_table

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.torch

EDITS = 4


def export(checkpoint: Path, output: Path, precision: str, **options: Any) -> Path:
    given: dict[str, Any] = {"checkpoint": str(checkpoint), "output": output, "precision": precision, "steps": 4}
    export_checkpoint(ExportOptions(**given, **options), on_progress=lambda stage: None)
    return output


def calibrated(exports: Exports, output: Path) -> None:
    """Layers are measured by blocks first, as those of a large network."""
    with TemporaryDirectory() as pictures, pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixrt_export.quantisation.sensitivity.MOST_RUNS", 24)
        write_table(Path(pictures), samples(EDITS + 1))
        given = {"calibrate": pictures, "calibration_edits": EDITS, "name": "it"}
        export(exports.checkpoint("sd1"), output, "int8", **given)


@pytest.fixture(scope="module")
def int8(exports: Exports) -> Path:
    """A network of random weights, calibrated on pictures of noise."""
    pytest.importorskip("nncf")

    return exports.other("int8", lambda folder: calibrated(exports, folder))


@pytest.fixture(scope="module")
def int8_weights(exports: Exports) -> Path:
    return exports.other("int8w", lambda folder: export(exports.checkpoint("sd1"), folder, "int8-weights"))


def layer(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs, [output], f"/{output}/{operator}", **attributes)


def pair(value: str, output: str, scale: str, zero: str, **attributes: Any) -> list[Any]:
    """A value through QuantizeLinear and DequantizeLinear."""
    return [
        layer("QuantizeLinear", [value, scale, zero], f"{output}_q", **attributes),
        layer("DequantizeLinear", [f"{output}_q", scale, zero], output, **attributes),
    ]


def two_layers() -> tuple[Any, dict[str, Any]]:
    """x @ first, reshaped behind its quantiser, @ second; both are quantised. Their weights, by name."""
    draw = np.random.default_rng(0)
    weights = {
        "first": draw.standard_normal((6, 8)).astype(np.float32),
        "second": draw.standard_normal((4, 5)).astype(np.float32),
        "scale": np.float32(0.05),
        "zero": np.int8(7),
        "first_scale": draw.uniform(0.01, 0.03, 8).astype(np.float32),
        "first_zero": np.zeros(8, np.int8),
        "second_scale": draw.uniform(0.01, 0.03, 5).astype(np.float32),
        "second_zero": np.zeros(5, np.int8),
        "shape": np.int64([-1, 4]),
    }
    nodes = [
        *pair("x", "x_dq", "scale", "zero"),
        *pair("first", "first_dq", "first_scale", "first_zero", axis=1),
        layer("MatMul", ["x_dq", "first_dq"], "a"),
        *pair("a", "a_dq", "scale", "zero"),
        layer("Reshape", ["a_dq", "shape"], "b"),
        *pair("second", "second_dq", "second_scale", "second_zero", axis=1),
        layer("MatMul", ["b", "second_dq"], "y"),
    ]
    value = onnx.helper.make_tensor_value_info
    floats = onnx.TensorProto.FLOAT
    tensors = [onnx.numpy_helper.from_array(np.asarray(each), name) for name, each in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", floats, ["n", 6])], [value("y", floats, ["m", 5])], tensors)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), weights


def rounded(values: Any, scale: Any, zero: Any) -> Any:
    """Through INT8 and back, in float64."""
    whole = np.clip(np.round(values.astype(np.float64) / scale) + zero, -128, 127)
    return (whole - zero) * scale


def expected(x: Any, weights: dict[str, Any], quantised: tuple[bool, bool]) -> Any:
    """The two layers in NumPy."""
    first, second = weights["first"].astype(np.float64), weights["second"].astype(np.float64)
    a = x.astype(np.float64)
    if quantised[0]:
        a, first = rounded(a, weights["scale"], 7), rounded(first, weights["first_scale"], 0)
    a = a @ first
    if quantised[1]:
        a, second = rounded(a, weights["scale"], 7), rounded(second, weights["second_scale"], 0)
    return a.reshape(-1, 4) @ second


def compute(model: Any, path: Path, **feeds: Any) -> Any:
    from pixrt_export.tracing import open_session, save

    save(model, path)
    return open_session(path).run(None, feeds)[0]


NAMES = ("/a/MatMul", "/y/MatMul")
CHOICES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("quantised", CHOICES)
def test_layers_are_put_back_and_switched(tmp_path: Path, quantised: tuple[bool, bool]) -> None:
    from pixrt_export.quantisation.qdq import SWITCHES, QuantisedGraph

    x = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)
    model, weights = two_layers()
    graph = QuantisedGraph(model)
    assert graph.layers == NAMES
    graph.put_back([name for name, is_on in zip(NAMES, quantised, strict=True) if not is_on])
    answer = expected(x, weights, quantised)
    np.testing.assert_allclose(compute(model, tmp_path / "back.onnx", x=x), answer, atol=2e-5)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name, is_on in zip(("first", "second"), quantised, strict=True):
        assert (name in kinds) != is_on
        assert (kinds.get(f"{name}_dq_q") == onnx.TensorProto.INT8) == is_on

    switched, _ = two_layers()
    QuantisedGraph(switched).add_switches([[name] for name in NAMES])
    found = compute(switched, tmp_path / "switched.onnx", x=x, **{SWITCHES: np.array(quantised)})
    np.testing.assert_allclose(found, answer, atol=2e-5)


def test_layers_are_kept_until_the_rest_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixrt_export.quantisation import sensitivity
    from pixrt_export.tracing import save

    model, weights = two_layers()
    save(model, tmp_path / "it.onnx")
    x = np.random.default_rng(2).standard_normal((3, 6)).astype(np.float32)
    exact = expected(x, weights, (False, False))
    alone = [float(np.sqrt(np.mean((expected(x, weights, each) - exact) ** 2) / np.mean(exact**2))) for each in CHOICES]
    rows = [{"x": x, "out_sample": exact.astype(np.float32)}]
    worst, other = sorted(zip(alone[1:3], NAMES, strict=True), reverse=True)
    macs = {NAMES[0]: 50, NAMES[1]: 50}
    for bound, most, kept in ((alone[3] + 1e-3, 1, []), (other[0] + 1e-3, 1, [worst[1]]), (0, 1, [worst[1], other[1]])):
        monkeypatch.setattr(sensitivity, "ERROR_BOUND", bound)
        monkeypatch.setattr(sensitivity, "MOST_KEPT", most)
        choice = sensitivity.choose_layers(tmp_path / "it.onnx", rows, macs, lambda what: None)
        assert list(choice.kept) == kept
        assert choice.error_of_all == pytest.approx(alone[3], rel=1e-3)
        assert choice.kept_macs == pytest.approx(0.5 * len(kept))
    assert choice.error < 1e-6
    monkeypatch.setattr(sensitivity, "MOST_KEPT", 0.4)  # less than either
    assert sensitivity.choose_layers(tmp_path / "it.onnx", rows, macs, lambda what: None).kept == {}
    assert [path.name for path in tmp_path.iterdir()] == ["it.onnx"]


def test_work_is_counted_as_the_layers_shapes_say(tmp_path: Path) -> None:
    from pixrt_export.quantisation.work import count_macs

    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    kernel = onnx.numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), "kernel")
    nodes = [
        layer("Conv", ["x", "kernel"], "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        layer("Transpose", ["c"], "t", perm=[0, 1, 3, 2]),
        layer("MatMul", ["c", "t"], "y"),
    ]
    inputs, outputs = [value("x", floats, ["n", 3, "h", "w"])], [value("y", floats, ["n", 5, "a", "b"])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [kernel])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "it.onnx"))
    counted = count_macs(tmp_path / "it.onnx", {"x": np.zeros((2, 3, 8, 12), np.float32)})
    assert counted == {"/c/Conv": 2 * 5 * 4 * 6 * 27, "/y/MatMul": 2 * 5 * 4 * 4 * 6}


def test_weights_alone_are_rounded_to_a_255th_of_their_channels(tmp_path: Path) -> None:
    from pixrt_export.quantisation.weights import to_int8_weights

    draw = np.random.default_rng(0)
    channels = (10.0 ** np.arange(-4, 4)).astype(np.float32)  # of very different size, and one of zeros
    kernel = draw.standard_normal((8, 64, 3, 3)).astype(np.float32) * channels[:, None, None, None]
    kernel[3] = 0
    linear = draw.standard_normal((512, 8)).astype(np.float32) * channels
    value, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [
        layer("Conv", ["x", "kernel"], "c"),
        layer("GlobalAveragePool", ["c"], "p"),
        layer("MatMul", ["z", "linear"], "l"),
    ]
    inputs = [value("x", floats, ["n", 64, 3, 3]), value("z", floats, ["k", 512])]
    outputs = [value("p", floats, ["n", 8, 1, 1]), value("l", floats, ["k", 8])]
    tensors = [onnx.numpy_helper.from_array(kernel, "kernel"), onnx.numpy_helper.from_array(linear, "linear")]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "it.onnx"))
    to_int8_weights(tmp_path / "it.onnx", tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < 0.3 * (tmp_path / "it.onnx").stat().st_size
    from pixrt_export.tracing import open_session

    # Each unit vector picks a row of the linear weight.
    feeds = {"x": np.zeros((512, 64, 3, 3), np.float32), "z": np.eye(512, dtype=np.float32)}
    _, found = open_session(tmp_path / "small.onnx").run(None, feeds)
    assert (np.abs(found - linear) <= np.abs(linear).max(0) / 254 * 1.001).all()
    # What multiplies them stays FP32: no matrix product rounds it to 8 bits, as ONNX Runtime does if it is let.
    z = draw.standard_normal((7, 512)).astype(np.float32)
    _, made = open_session(tmp_path / "small.onnx").run(None, {"x": feeds["x"][:7], "z": z})
    np.testing.assert_allclose(made, z.astype(np.float64) @ found, rtol=1e-4, atol=1e-4 * np.abs(made).max(0).min())
    # A picture of one pixel in each place picks a kernel's values.
    pixels = np.zeros((64, 64, 3, 3), np.float32)
    pixels[np.arange(64), np.arange(64), 1, 1] = 1
    picked, _ = open_session(tmp_path / "small.onnx").run(None, {"x": pixels, "z": z[:1]})
    bound = np.abs(kernel).max((1, 2, 3)) / 254 * 1.001
    assert (np.abs(picked[..., 0, 0] - kernel[:, :, 1, 1].T) <= bound).all()


@pytest.mark.parametrize("seed", [0, 5])
def test_calibration_never_touches_what_is_held_out(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither scenes nor photographs: only the training side is drawn from, and every scene is one of it."""
    from pixrt_export.photo.pairs import PhotoPairs
    from pixrt_export.quantisation.calibration import calibration_set
    from pixrt_export.world.pairs import WorldPairs

    given = calibration_set(None, WorldPairs(1).known(), 40, seed, is_edit=True)
    assert isinstance(given.pairs, WorldPairs)
    for index in given.order:
        scene, instruction, _ = given.pairs.draw(index)
        assert instruction is not None
        assert {scene.split, instruction.apply(scene).scene.split} == {"train"}
    photo = calibration_set(None, PhotoPairs(1).known(), 40, seed, is_edit=True)
    assert isinstance(photo.pairs, PhotoPairs)
    assert photo.pairs.split == "train"
    assert len(set(photo.order)) == 40


def test_what_cannot_be_calibrated(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf")
    write_table(tmp_path / "few", samples(2))
    with pytest.raises(OptionError, match="which ones this checkpoint can make is not known") as caught:
        export(exports.checkpoint("sd1"), tmp_path / "bundle", "int8")
    assert "--calibrate" in caught.value.remedy
    with pytest.raises(OptionError, match="inpainting"):
        export(exports.checkpoint("inpainting"), tmp_path / "bundle", "int8", calibrate=str(tmp_path / "few"))
    with pytest.raises(DataError, match="does not exist"):
        export(exports.checkpoint("sd1"), tmp_path / "bundle", "int8", calibrate=str(tmp_path / "none"))
    with pytest.raises(DataError, match="few has 2 samples"):
        export(exports.checkpoint("sd1"), tmp_path / "bundle", "int8", calibrate=str(tmp_path / "few"))
    monkeypatch.setattr("pixrt_export.quantisation.quantiser.find_spec", lambda name: None)
    with pytest.raises(PackageMissing, match="nncf") as missing:
        export(exports.checkpoint("sd1"), tmp_path / "bundle", "int8", calibrate=str(tmp_path / "few"))
    assert "pixrt[quantize]" in missing.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"precision": "int8", "compact": True}, "compact is given"),
        ({"precision": "int8", "fused_step": True}, "TensorRT does not take"),
        ({"precision": "int8-weights", "fused_step": True}, "TensorRT does not take"),
        ({"precision": "fp16", "calibrate": "x"}, "needs no calibration"),
        ({"precision": "int8", "calibration_edits": 1}, "calibration_edits is 1"),
    ],
)
def test_what_does_not_go_together(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        ExportOptions(checkpoint="x", output=Path("y"), **wrong)


@pytest.mark.slow
def test_the_manifest_says_how_it_was_quantised(int8: Path) -> None:
    manifest = open_bundle(int8).manifest
    (given,) = manifest.quantised
    assert (manifest.precision, given.component, given.edits, given.seed) == ("int8", "unet", 3, 0)
    assert given.rows == 3 * 12  # 4 steps of 3 branches
    assert 0 < given.error <= given.error_of_all < 0.2
    assert given.kept_macs <= 0.1
    assert manifest.component(Component.UNET).kept_fp32 == tuple(given.kept)
    assert {"nncf", "onnx"} <= manifest.tools.keys()
    assert parse_manifest(manifest.to_json(), "it") == manifest
    assert {path.name for path in int8.iterdir()} == {*manifest.files, "manifest.json"}


@pytest.mark.slow
def test_inspect_says_what_it_is_for(run: Run, int8: Path) -> None:
    outcome = run("inspect", int8)
    said = " ".join(outcome.out.split())
    assert "made for OpenVINO: ONNX Runtime runs it right, and no faster than fp32" in said
    assert "against its FP32 graph" in said
    assert "calibrated on 36 rows of 3 edits" in said


@pytest.mark.slow
def test_only_the_unet_is_int8(exports: Exports, int8: Path, int8_weights: Path) -> None:
    """And its weights are so in the file; small ones stay, of which so small a network has many."""
    plain = open_bundle(exports.bundle("sd1", "fp32"))
    for folder in (int8, int8_weights):
        bundle = open_bundle(folder)
        for component in (Component.TEXT_ENCODER, Component.VAE_ENCODER, Component.VAE_DECODER):
            name = bundle.manifest.component(component).file
            assert bundle.manifest.files[name].sha256 == plain.manifest.files[name].sha256
        counts = []
        for each in (plain, bundle):
            graph = onnx.load(str(each.file(Component.UNET))).graph
            sizes = dict.fromkeys((onnx.TensorProto.FLOAT, onnx.TensorProto.INT8), 0)
            for tensor in graph.initializer:
                if tensor.data_type in sizes:
                    sizes[tensor.data_type] += int(np.prod(tensor.dims))
            counts.append(sizes)
        of_all = counts[0][onnx.TensorProto.FLOAT]
        assert counts[1][onnx.TensorProto.INT8] > 0.65 * of_all
        assert counts[1][onnx.TensorProto.FLOAT] < 0.35 * of_all


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ort-cpu", "openvino"])
def test_they_edit_as_fp32_does(exports: Exports, int8: Path, int8_weights: Path, backend: str, scene: Any) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    images = []
    for folder in (exports.bundle("sd1", "fp32"), int8, int8_weights):
        with Editor(folder, backend=backend) as editor:
            images.append(np.int16(editor.edit(scene, "make it winter", steps=4, seed=1).image))
    # Random weights, so the picture is noise of full range.
    assert 0 < np.abs(images[0] - images[1]).mean() < 12
    assert 0 < np.abs(images[0] - images[2]).mean() < 6


@pytest.mark.slow
def test_no_lora_is_merged_into_it(int8: Path, int8_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").write_bytes(b"")
    for folder in (int8, int8_weights):
        with Editor(folder) as editor:
            with pytest.raises(LoraError, match="no LoRA can be merged into INT8") as caught:
                editor.set_loras([tmp_path / "it.safetensors"])
            assert "pixrt export --lora" in caught.value.remedy
            editor.set_loras([])


@pytest.mark.slow
def test_two_quantisations_are_alike(exports: Exports, int8: Path, tmp_path: Path) -> None:
    """The same samples, noise, ranges and layers."""
    calibrated(exports, tmp_path / "again")
    one, other = (open_bundle(each).manifest for each in (int8, tmp_path / "again"))
    assert dataclasses.replace(one.quantised[0], calibrated_on="") == dataclasses.replace(
        other.quantised[0], calibrated_on=""
    )
    assert one.files["unet.onnx"] == other.files["unet.onnx"]
