"""The fused step against the loop that it replaces, for every solver, and what its rows may and may not share."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import Exports
from fused_edits import CLOSE, assert_same, states
from peft_loras import make_lora
from pixrt import Editor
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.core.fused import PAUSED, STEP_TABLE
from pixrt.core.networks import Networks
from pixrt.core.timing import Stopwatch
from pixrt.core.track import COLUMNS, DEPTH, Track, coefficient_rows, make_track, steps_of
from pixrt.errors import BundleError, ExportMismatch
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.solvers import build_table
from pixrt.options.choices import SCHEDULERS
from pixrt.options.session import SessionOptions
from pools import states_of
from shapes import pixels

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


class TestTables:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_every_coefficient_has_its_column(self, scheduler: str) -> None:
        table = build_table(scheduler, CONFIG, 6)
        steer = np.linspace(0, 1, len(table))
        rows = coefficient_rows(table, steer)
        assert table.depth <= DEPTH
        moved = steer * [table.level_after(step)[0] for step in range(len(table))]
        none = np.zeros_like(steer)
        anchors = {"loss": none, "anchor_alpha": moved, "anchor_sigma": none, "anchor_denoised": -moved}
        for column, name in enumerate(COLUMNS):
            ago = int(name.removeprefix("history_")) if name.startswith("history_") else None
            if name in anchors:
                expected = anchors[name]
            elif ago is None:
                expected = getattr(table, name)
            else:
                expected = table.history[:, ago] if ago < table.depth else none
            np.testing.assert_array_equal(rows[:, column], expected.astype(np.float32))

    def test_the_table_is_the_graphs(self) -> None:
        assert (*COLUMNS, "guidance_text", "guidance_image", "guidance_uncond", "timestep", "paused") == STEP_TABLE
        config = CONFIG | {"timestep_spacing": "linspace"}
        most = max(len(build_table(name, config, 1000)) for name in ("pndm", "ddim"))  # as many as options allow
        assert most == 1001 < PAUSED


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
        for number, (ours, theirs) in enumerate(zip(fused, plain, strict=True)):
            assert np.abs(ours - theirs).max() <= 1e-3 * (number // 2 + 1) * np.abs(theirs).max()  # two pictures

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
        ("right", "wrong"),
        [
            ("row_to_source", "row_to_latents"),
            ("branch_rows", "other_rows"),
            ("noise", "latents"),
            ("at", "other_rows"),
        ],
    )
    def test_the_check_sees_a_wrong_wire(self, exports: Exports, tmp_path: Path, right: str, wrong: str) -> None:
        import onnx

        from pixrt_export.fused_step import check_step_graph

        bundle = exports.bundle("sd1", "fp16")
        for name in ("unet.onnx", "unet.onnx_data", "unet_step.onnx"):
            if (bundle / name).exists():
                shutil.copyfile(bundle / name, tmp_path / name)
        model = onnx.load(str(tmp_path / "unet_step.onnx"), load_external_data=False)
        if wrong == "other_rows":  # the second branch in the third's place, or the second slot in the third's
            values, axis = np.array([0, 2, 1], np.int64), int(right == "branch_rows")
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, "order"))
            model.graph.node.insert(0, onnx.helper.make_node("Gather", [right, "order"], [wrong], axis=axis))
        for node in model.graph.node:
            if wrong not in node.output:
                node.input[:] = [wrong if name == right else name for name in node.input]
        onnx.save(model, str(tmp_path / "unet_step.onnx"))
        with pytest.raises(ExportMismatch, match=r"unet_step.onnx differs from the UNet's own step by"):
            check_step_graph(tmp_path / "unet.onnx", tmp_path / "unet_step.onnx")

    @pytest.mark.slow
    def test_weights_beside_the_graph_are_not_written_again(self, exports: Exports) -> None:
        bundle = open_bundle(exports.bundle("shapes", "fp32"))
        names = {path.name for path in bundle.folder.iterdir()}
        assert "unet.onnx_data" in names
        assert "unet_step.onnx_data" not in names
        assert (bundle.folder / "unet_step.onnx").stat().st_size < 2**21

    def test_a_bundle_without_it(self) -> None:
        with pytest.raises(BundleError, match="no component unet_step"):
            Editor("shapes", backend="ort-cpu", fused_step=True)

    @pytest.mark.parametrize("kind", ["text_to_image", "inpainting"])
    def test_checkpoints_of_other_tasks(self, exports: Exports, kind: str) -> None:
        manifest = open_bundle(exports.bundle(kind, "fp32")).manifest
        names = [tensor.name for tensor in manifest.component(Component.UNET_STEP).inputs]
        assert ("source" in names) == (kind == "inpainting")

    @pytest.mark.parametrize("scheduler", ["euler_ancestral", "pndm"])
    def test_without_a_source(self, exports: Exports, scheduler: Any) -> None:
        """Text-to-image: two branches and no source latents."""
        bundle = open_bundle(exports.bundle("text_to_image", "fp32"))
        backend = open_backend("ort-cpu", bundle, SessionOptions(threads=1)).backend
        draw = np.random.default_rng(3)
        contexts = {branch: draw.standard_normal((77, 24), np.float32) for branch in (Branch.TEXT, Branch.UNCOND)}
        table = build_table(scheduler, bundle.manifest.scheduler, 5)
        steps = steps_of(table, guidance_weights(len(table), 4.0, 4.0, (0, 1)))
        found = []
        for fused in (False, True):
            networks = Networks(bundle, backend, fused_step=fused)
            pool = networks.take_pool(networks.work(2, (8, 6)), 2, Stopwatch())
            tracks = [make_track(steps, seed, Conditioning(contexts), (4, 8, 6)) for seed in (1, 2)]
            found.append([state for picture in states_of(pool, tracks) for state in picture])
        for ours, theirs in zip(*found, strict=True):
            assert np.abs(ours - theirs).max() <= CLOSE * np.abs(theirs).max()


@pytest.mark.torch
class TestCompany:
    """Slots of the graph are independent: pictures join, rest and leave, and each is what it is alone."""

    def pool(self, exports: Exports, slots: int, fused: bool = True) -> Any:
        bundle = open_bundle(exports.bundle("sd1", "fp32"))
        backend = open_backend("ort-cpu", bundle, SessionOptions(threads=1)).backend
        networks = Networks(bundle, backend, fused_step=fused)
        return networks.take_pool(networks.work(3, (8, 6)), slots, Stopwatch())

    def tracks(self, exports: Exports) -> list[Track]:
        manifest, made = open_bundle(exports.bundle("sd1", "fp32")).manifest, []
        for seed, (scheduler, count, scales, window) in enumerate(
            [
                ("euler_ancestral", 4, (7.5, 1.5), (0.0, 1.0)),
                ("pndm", 6, (3.0, 1.0), (0.0, 0.5)),
                ("dpmpp_2m", 3, (1.0, 1.0), (0.0, 1.0)),
                ("unipc", 5, (0.0, 2.0), (0.2, 0.8)),
                ("lcm", 2, (7.5, 1.5), (0.0, 1.0)),
            ]
        ):
            draw = np.random.default_rng(seed)
            text, null = (draw.standard_normal((77, 24), np.float32) for _ in range(2))
            source = draw.standard_normal((4, 8, 6), np.float32)
            anchor = Anchor(source, np.float32(draw.random((1, 8, 6)) < 0.5)) if seed % 2 else None
            contexts = {Branch.TEXT: text, Branch.IMAGE: null, Branch.UNCOND: null}
            conditioning = Conditioning(contexts, {Branch.TEXT: source, Branch.IMAGE: source}, anchor=anchor)
            table = build_table(scheduler, manifest.scheduler, count)
            steps = steps_of(table, guidance_weights(len(table), *scales, window))
            made.append(make_track(steps, seed, conditioning, (4, 8, 6)))
        return made

    def test_joining_resting_and_leaving(self, exports: Exports) -> None:
        tracks = self.tracks(exports)
        alone = [states_of(self.pool(exports, 1), [track])[0] for track in tracks]
        plain = [states_of(self.pool(exports, 1, fused=False), [track])[0] for track in tracks]
        pool, draw = self.pool(exports, 3), np.random.default_rng(5)
        waiting, inside, seen = list(range(len(tracks))) * 2, dict[int, tuple[int, int]](), 0
        while waiting or inside:
            while waiting and pool.has_room:
                number = waiting.pop(0)
                inside[pool.join(tracks[number])] = (number, 0)
            stepping = {slot for slot in inside if draw.random() < 0.7} or set(inside)
            ended = pool.step(stepping)
            for slot in stepping:
                number, done = inside[slot]
                expected = alone[number][done]
                # The network's rows are the same to the bit; the sums around it may be in another order.
                assert np.abs(pool.latents(slot) - expected).max() <= CLOSE * np.abs(expected).max()
                assert np.abs(expected - plain[number][done]).max() <= CLOSE * np.abs(expected).max()
                inside[slot], seen = (number, done + 1), seen + 1
            for slot in ended:
                pool.leave(slot)
                del inside[slot]
            if draw.random() < 0.2 and inside:  # one is cancelled
                pool.leave(slot := min(inside))
                del inside[slot]
        assert seen > 20

    def test_values_that_are_not_finite_stay_with_their_picture(self, exports: Exports) -> None:
        good, bad = self.tracks(exports)[1], self.tracks(exports)[0]
        (expected,) = states_of(self.pool(exports, 1), [good])
        pool = self.pool(exports, 2)
        broken = pool.join(replace(bad, start=np.full_like(bad.start, np.nan)))
        slot = pool.join(good)
        pool.step({broken})
        for state in expected:
            pool.step()
            assert np.abs(pool.latents(slot) - state).max() <= CLOSE * np.abs(state).max()
        assert np.isnan(pool.leave(broken)).any()
        again = pool.join(good)  # in the slot of the broken one
        assert again == broken
        pool.step({again})
        assert np.abs(pool.latents(again) - expected[0]).max() <= CLOSE * np.abs(expected[0]).max()
