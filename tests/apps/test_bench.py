"""What `pixrt bench` measures, and what it writes; how long anything takes is not tested."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from loras import ATTENTION, lora, write
from pixrt import Editor
from pixrt.apps.bench import Spread, measure, peak_memory_bytes, picture, timed_edit
from pixrt.options.tasks import EditOptions
from pixrt_export.bench import peaks
from shapes import Run, files

QUICK = ("--steps", 3, "--repeats", 2, "--warmups", 1, "--threads", 1)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "SIDE", 64)
    monkeypatch.setattr(peaks, "COPIED_BYTES", 1 << 16)


def test_a_spread() -> None:
    assert Spread.of([float(each) for each in range(101)]) == Spread(50, 90, 99, 0, 100, 101)
    assert Spread.of([2.0]) == Spread(2, 2, 2, 2, 2, 1)


def test_every_edit_is_told_apart() -> None:
    """A device that takes its time: nothing of an edit is remembered for the next, and the first stands by itself."""
    takes = {"step_ms": "2", "encode_ms": "2", "decode_ms": "2"}
    told: list[tuple[int, int]] = []
    with Editor("shapes", backend="null", provider_options=takes) as editor:
        options = EditOptions(steps=4, seed=0)
        timings = measure(
            editor, options, 64, repeats=3, warmups=2, on_progress=lambda done, total: told.append((done, total))
        )
    assert told == [(number, 6) for number in range(1, 7)]
    assert len(timings.edits) == 3
    assert timings.first.ms["load"] > 0
    stages = timings.stages
    assert "load" not in stages
    assert (stages["step"].count, stages["denoise"].count) == (9, 3)
    assert all(stages[name].least >= 2 for name in ("encode", "step", "decode"))
    assert timings.per_step.least >= 2
    for edit in timings.edits:
        assert edit.ms["edit"] > sum(edit.ms[name] for name in ("check", "encode", "denoise", "decode", "save"))


@pytest.mark.parametrize("together", [1, 2, 4])
def test_steps_of_several_pictures_together(together: int) -> None:
    """Only steps that advanced all of them count, by the end of each: three rows for every picture."""
    takes = {"step_ms": "1", "row_ms": "2"}
    with Editor("shapes", backend="null", provider_options=takes, max_batch=4) as editor:
        timed = timed_edit(editor, EditOptions(steps=5, seed=0), 64, 0, together=together)
    assert 1 <= len(timed.steps_ms) <= 4
    assert all(ms >= 1 + 3 * together * 2 for ms in timed.steps_ms)
    assert timed.result.index == 0


def test_pictures_differ_and_repeat() -> None:
    assert picture(64, 1) == picture(64, 1) != picture(64, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_peak_of_memory() -> None:
    peak = peak_memory_bytes()
    assert peak is not None
    assert peak > 1 << 24


def test_the_command(run: Run, tmp_path: Path) -> None:
    words = ("bench", "shapes", *QUICK, "--json", "b.json", "--html", "b.html")
    outcome = run(*words)
    assert outcome.code == 0, outcome.err
    for part in ("whole edit", "VAE decoder", "a step without the network", "the first edit", "of the peak"):
        assert part in outcome.out
    facts = json.loads((tmp_path / "b.json").read_text())
    assert (facts["model"], facts["size"], facts["steps"], facts["network_rows"]) == ("pixrt-shapes", 64, 3, 9)
    assert facts["parameters"]["steps"] == 3
    assert facts["session"]["threads"] == 1
    assert facts["environment"]["libraries"]["numpy"]
    assert [len(steps) for steps in facts["steps_ms"]] == [2, 2]
    assert facts["unet"]["flops"] > 0
    html = (tmp_path / "b.html").read_text()
    assert html.count("<svg") == 2
    assert "whole edit" in html
    assert "<script" not in html
    assert files(tmp_path) == {"scene.png", "b.json", "b.html"}
    again = run(*words)
    assert (again.code, "b.json exists already" in again.err) == (7, True)
    assert run(*words, "--overwrite", "--backend", "null", "--steps", 1).code == 0


def test_loras_are_merged_and_named(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "ink.safetensors", lora(ATTENTION[:2]))
    outcome = run("bench", "shapes", *QUICK, "--lora", "ink.safetensors:0.5", "--json", "b.json")
    assert outcome.code == 0, outcome.err
    facts = json.loads((tmp_path / "b.json").read_text())
    assert [each["scale"] for each in facts["loras"]] == [0.5]
    missing = run("bench", "shapes", *QUICK, "--lora", "none.safetensors")
    assert (missing.code != 0, "none.safetensors" in missing.err) == (True, True)


def test_the_work_is_a_share_of_the_peak_in_its_format(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    outcome = run("bench", "shapes", *QUICK, "--backend", "openvino", "--json", "b.json")
    assert outcome.code == 0, outcome.err
    facts = json.loads((tmp_path / "b.json").read_text())
    unet, peaks_ = facts["unet"], facts["peaks"]
    assert facts["format"] == "FP32"
    assert unet["of_gemm_peak"] == pytest.approx(unet["flop_per_s"] / peaks_["formats"]["FP32"])
    assert unet["of_copy_peak"] == pytest.approx(unet["bytes_per_s"] / peaks_["copy_bytes_per_s"])
    assert {"FP32"} <= {*peaks_["formats"]} <= {"FP32", "BF16", "INT8"}


def test_a_product_in_int8_is_one() -> None:
    """What is timed as INT8 rounds as INT8 does: near the product, and not it."""
    openvino = pytest.importorskip("openvino")
    left, right = (np.random.default_rng(seed).uniform(-1, 1, (64, 64)).astype(np.float32) for seed in (0, 1))
    model = peaks._product(right, quantised=True)
    made = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([left])[0]
    error = np.sqrt(np.mean((made - left @ right) ** 2) / np.mean((left @ right) ** 2))
    assert 1e-3 < error < 0.1


def test_without_onnx_no_work_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixrt.cli.bench.find_spec", lambda name: None)
    outcome = run("bench", "shapes", *QUICK)
    assert outcome.code == 0
    assert (
        outcome.err
        == "note: the UNet's work is not counted: that needs onnx; install it: pip install 'pixrt[export]'\n"
    )
    assert "UNet, work" not in outcome.out


def test_a_product_by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "find_spec", lambda name: None)
    measured = peaks.measure_peaks()
    assert measured.gemm == "NumPy, FP32, 64 x 64"
    assert min(measured.gemm_flop_per_s, measured.copy_bytes_per_s) > 0
