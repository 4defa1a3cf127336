"""The fused step against the loop that it replaces, for every solver, and what its rows may and may not share."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo import pixels
from exported import Exports
from fused_edits import CLOSE, assert_same, states
from peft_loras import make_lora
from pixrt import Editor
from pixrt.backends.registry import BackendOptions, open_backend
from pixrt.bundles.manifest import Component, Manifest
from pixrt.bundles.store import open_bundle
from pixrt.core.conditioning import Conditioning
from pixrt.core.fused import COLUMNS, DEPTH, coefficient_rows, guidance_tables, order_branches
from pixrt.core.networks import Networks
from pixrt.core.pipeline import denoise
from pixrt.core.plan import Schedule
from pixrt.core.timing import Stopwatch
from pixrt.errors import BundleError, ExportMismatch
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.solvers import build_table
from pixrt.options.tasks import SCHEDULERS

TEXT, IMAGE, UNCOND = Branch
CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


class TestTables:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_every_coefficient_has_its_column(self, scheduler: str) -> None:
        table = build_table(scheduler, CONFIG, 6)
        steer = np.linspace(0, 1, 2 * len(table)).reshape(len(table), 2)
        rows = coefficient_rows(Schedule(table, np.zeros((*steer.shape, len(Branch))), steer))
        assert table.depth <= DEPTH
        levels = np.array([table.level_after(step) for step in range(len(table))])
        none, moved = np.zeros_like(steer), steer * levels[:, :1]
        anchors = {"loss": none, "anchor_alpha": moved, "anchor_sigma": none, "anchor_denoised": -moved}
        for column, name in enumerate(COLUMNS):
            ago = int(name.removeprefix("history_")) if name.startswith("history_") else None
            if name in anchors:
                expected = anchors[name]
            elif ago is None:
                expected = getattr(table, name)[:, None]
            else:
                expected = table.history[:, ago, None] if ago < table.depth else np.zeros((len(table), 1))
            for item in range(2):
                column_of_item = np.broadcast_to(expected, steer.shape)[:, item]
                np.testing.assert_array_equal(rows[:, item, column], column_of_item.astype(np.float32))

    @pytest.mark.parametrize(
        ("scales", "interval", "order", "used"),
        [
            ((7.5, 1.5), (0, 1), (TEXT, IMAGE, UNCOND), [3, 3, 3, 3]),
            ((7.5, 1.0), (0, 1), (TEXT, IMAGE), [2, 2, 2, 2]),
            ((3.0, 3.0), (0, 1), (TEXT, UNCOND), [2, 2, 2, 2]),
            ((7.5, 1.5), (0.25, 0.75), (TEXT, IMAGE, UNCOND), [1, 3, 3, 1]),
            ((0.0, 2.0), (0, 1), (IMAGE, UNCOND), [2, 2, 2, 2]),
            ((0.0, 2.0), (0.0, 0.25), (TEXT, IMAGE, UNCOND), [3, 1, 1, 1]),
        ],
    )
    def test_the_branches_that_run_are_the_first_rows(
        self, scales: tuple[float, float], interval: Any, order: tuple[Branch, ...], used: list[int]
    ) -> None:
        weights = np.repeat(guidance_weights(4, *scales, interval)[:, None], 2, 1)
        assert order_branches(weights) == (order, used)
        tables = guidance_tables(weights, order)
        for step, count in enumerate(used):
            for branch in Branch:
                if weights[step, 0, branch]:
                    rows = tables["branch_rows"][step, :, branch]
                    np.testing.assert_array_equal(rows, order.index(branch) * 2 + np.arange(2))
                    assert (rows < 2 * count).all()
            np.testing.assert_allclose(tables["guidance"][step], weights[step], rtol=1e-6)


@pytest.mark.torch
class TestAgainstTheLoop:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_every_step_of_every_solver(self, exports: Exports, scheduler: Any) -> None:
        assert_same(exports.bundle("sd1", "fp32"), scheduler=scheduler, steps=6)

    @pytest.mark.parametrize(
        "parameters",
        [
            {"guidance_interval": (0.2, 0.7)},
            {"guidance_scale": 0.0, "image_guidance_scale": 2.0, "guidance_interval": (0.0, 0.5)},
            {"guidance_scale": 1.0, "image_guidance_scale": 1.0},
            {"scheduler": "ddim", "eta": 0.7},
        ],
    )
    def test_other_branches(self, exports: Exports, parameters: dict[str, Any]) -> None:
        assert_same(exports.bundle("sd1", "fp32"), **{"scheduler": "dpmpp_2m", "steps": 5} | parameters)

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_a_step_in_fp16(self, exports: Exports, scheduler: Any) -> None:
        """From the same noise. A last bit of FP32 decides about a bit of FP16, which later steps carry on."""
        bundle = exports.bundle("sd1", "fp16")
        plain, fused = (states(bundle, kind, scheduler=scheduler, steps=6)[0] for kind in (False, True))
        for number, (ours, theirs) in enumerate(zip(fused, plain, strict=True), 1):
            assert np.abs(ours - theirs).max() <= 1e-3 * number * np.abs(theirs).max()

    def test_a_second_edit_starts_afresh(self, exports: Exports) -> None:
        with Editor(exports.bundle("sd1", "fp32"), backend="ort-cpu", fused_step=True) as editor:
            picture = np.full((64, 64, 3), 90, np.uint8)
            first, _, again = (
                editor.edit(picture, "make it winter", seed=1, steps=5, scheduler=name).image
                for name in ("dpmpp_2m", "pndm", "dpmpp_2m")
            )
        np.testing.assert_array_equal(pixels(first), pixels(again))

    def test_with_a_lora(self, exports: Exports, tmp_path: Path) -> None:
        bundle = exports.bundle("sd1", "fp32")
        lora = make_lora(exports.checkpoint("sd1"), tmp_path, seed=4)
        assert_same(bundle, scheduler="euler", steps=3, loras=[(lora, 2.0)])
        plain = states(bundle, True, scheduler="euler", steps=3)[0][-1]
        assert np.abs(states(bundle, True, scheduler="euler", steps=3, loras=[(lora, 2.0)])[0][-1] - plain).max() > 1e-3

    @pytest.mark.parametrize(
        ("right", "wrong"), [("row_to_source", "row_to_latents"), ("branch_rows", "other_rows"), ("noise", "latents")]
    )
    def test_the_check_sees_a_wrong_wire(self, exports: Exports, tmp_path: Path, right: str, wrong: str) -> None:
        import onnx

        from pixrt_export.fused_step import check_step_graph

        bundle = exports.bundle("sd1", "fp16")
        for name in ("unet.onnx", "unet.onnx_data", "unet_step.onnx"):
            if (bundle / name).exists():
                shutil.copyfile(bundle / name, tmp_path / name)
        model = onnx.load(str(tmp_path / "unet_step.onnx"), load_external_data=False)
        if wrong == "other_rows":  # the second branch in the third's place
            values = np.array([0, 2, 1], np.int64)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, "order"))
            model.graph.node.insert(0, onnx.helper.make_node("Gather", [right, "order"], [wrong], axis=1))
        for node in model.graph.node:
            if wrong not in node.output:
                node.input[:] = [wrong if name == right else name for name in node.input]
        onnx.save(model, str(tmp_path / "unet_step.onnx"))
        with pytest.raises(ExportMismatch, match=r"unet_step.onnx differs from the UNet's own step by"):
            check_step_graph(tmp_path / "unet.onnx", tmp_path / "unet_step.onnx")

    @pytest.mark.slow
    def test_weights_beside_the_graph_are_not_written_again(self, exports: Exports) -> None:
        bundle = open_bundle(exports.bundle("demo", "fp32"))
        names = {path.name for path in bundle.folder.iterdir()}
        assert "unet.onnx_data" in names
        assert "unet_step.onnx_data" not in names
        assert (bundle.folder / "unet_step.onnx").stat().st_size < 2**21

    def test_a_bundle_without_it(self) -> None:
        with pytest.raises(BundleError, match="no component unet_step"):
            Editor("demo", backend="ort-cpu", fused_step=True)

    @pytest.mark.parametrize("kind", ["text_to_image", "inpainting"])
    def test_checkpoints_of_other_tasks(self, exports: Exports, kind: str) -> None:
        manifest = open_bundle(exports.bundle(kind, "fp32")).manifest
        names = [tensor.name for tensor in manifest.component(Component.UNET_STEP).inputs]
        assert ("source" in names) == (kind == "inpainting")

    @pytest.mark.parametrize("scheduler", ["euler_ancestral", "pndm"])
    def test_without_a_source(self, exports: Exports, scheduler: Any) -> None:
        """Text-to-image: two branches and no source latents."""
        bundle = open_bundle(exports.bundle("text_to_image", "fp32"))
        backend = open_backend("ort-cpu", bundle, BackendOptions(threads=1)).backend
        draw = np.random.default_rng(3)
        contexts = {branch: [draw.standard_normal((77, 24), np.float32)] * 2 for branch in (Branch.TEXT, Branch.UNCOND)}
        table = build_table(scheduler, bundle.manifest.scheduler, 5)
        weights = np.repeat(guidance_weights(len(table), 4.0, 4.0, (0, 1))[:, None], 2, 1)
        schedule = Schedule(table, weights)
        found = []
        for fused in (False, True):
            networks = Networks(bundle, backend, fused_step=fused)
            plan = networks.plan(schedule, [1, 2], (8, 6), Conditioning(contexts), Stopwatch())
            found.append([state.latents() for state in denoise(plan)])
        for ours, theirs in zip(*found, strict=True):
            assert np.abs(ours - theirs).max() <= CLOSE * np.abs(theirs).max()


def example(manifest: Manifest, draw: np.random.Generator) -> dict[str, Any]:
    """Two pictures at different steps: the first with three rows, the second with two."""
    spec = manifest.component(Component.UNET_STEP)
    sizes = {"batch": 2, "rows": 5, "sources": 3, "tokens": 77, "height": 8, "width": 6}
    given = {
        tensor.name: draw.standard_normal([sizes.get(n, n) for n in tensor.shape]).astype(tensor.dtype)  # type: ignore[call-overload]
        for tensor in (*spec.inputs, *spec.outputs)
    }
    return given | {
        "row_to_latents": np.array([0, 1, 0, 1, 0], np.int32),
        "row_to_source": np.array([0, 1, 0, 1, 2], np.int32),
        "timestep": np.array([901.5, 41, 901.5, 41, 901.5], np.float32),
        "branch_rows": np.array([[0, 2, 4], [1, 3, 1]], np.int32),
        "guidance": np.array([[7.5, -6, -0.5], [3, -2, 0]], np.float32),
    }


def alone(given: dict[str, Any], picture: int) -> dict[str, Any]:
    """The same picture without the other."""
    rows = np.flatnonzero(given["row_to_latents"] == picture)
    own = {name: value[picture : picture + 1].copy() for name, value in given.items()}
    own |= {name: given[name][rows].copy() for name in ("context", "row_to_source", "timestep")}
    own |= {"source": given["source"].copy(), "row_to_latents": np.zeros(len(rows), np.int32)}
    own["branch_rows"] = np.searchsorted(rows, given["branch_rows"][picture : picture + 1]).astype(np.int32)
    return own


@pytest.mark.torch
class TestRowsOfSeveralRequests:
    def test_a_picture_is_as_it_would_be_alone(self, exports: Exports) -> None:
        bundle = open_bundle(exports.bundle("sd1", "fp32"))
        engine = open_backend("ort-cpu", bundle, BackendOptions(threads=1)).backend.open(bundle, Component.UNET_STEP)
        given = example(bundle.manifest, np.random.default_rng(0))
        engine.bind(given)()
        for picture in (0, 1):
            own = alone(given, picture)
            engine.bind(own)()
            for name in ("next_latents", "next_history", "denoised"):
                error = np.abs(own[name][0] - given[name][picture]).max() / np.abs(own[name]).max()
                assert error < CLOSE, name

    def test_values_that_are_not_finite_stay_with_their_picture(self, exports: Exports) -> None:
        bundle = open_bundle(exports.bundle("sd1", "fp32"))
        engine = open_backend("ort-cpu", bundle, BackendOptions(threads=1)).backend.open(bundle, Component.UNET_STEP)
        given = example(bundle.manifest, np.random.default_rng(0))
        given["latents"][0] = np.nan
        engine.bind(given)()
        for name in ("next_latents", "next_history", "denoised"):
            assert np.isnan(given[name][0]).any()
            assert np.isfinite(given[name][1]).all()
