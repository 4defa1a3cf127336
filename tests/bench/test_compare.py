"""Results of `pixrt bench` beside each other."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import typer

import compare

FACTS: dict[str, Any] = {
    **{"model": "m", "model_sha256": "0", "precision": "fp32", "size": 64, "network_calls": 2, "network_rows": 6},
    **{"parameters": {"steps": 2}, "backend": "ort-cpu", "session": {"threads": 2}, "open_ms": 4.0},
    "stages_ms": {"denoise": {"p50": 30.0}, "edit": {"p50": 40.0}},
    "host_step_ms": {"p50": 0.0},
    "first_ms": {"load": 100.0, "edit": 150.0},
    "peak_memory_bytes": 1 << 20,
    "peaks": {"gemm_flop_per_s": 1e9, "copy_bytes_per_s": 1e9},
}


RUN: dict[str, Any] = {
    **{"model": "m", "model_sha256": "0", "size": 64, "network": False, "steps": 2, "scale_to": 20, "repeat": 2},
    **{"scheduler": "euler", "guidance_scale": 7.5, "image_guidance_scale": 1.5, "threads": 2},
    **{"environment": {"processor": "p", "versions": {"torch": "2.13"}}, "flops": 10**9, "rows": 3},
    "peaks": {"formats": {"FP32": 2e9}},
    "sides": [
        {
            **{"name": "diffusers FP32", "format": "FP32", "not_run": None, "psnr_db": None, "median_s": 4.0},
            **{"ratios": [1.0, 1.0], "peak_memory_bytes": 2 << 30},
        },
        {
            **{"name": "pixrt", "format": "FP32", "not_run": None, "psnr_db": 60.0, "median_s": 2.0},
            **{"ratios": [1.5, 2.0, 2.5], "peak_memory_bytes": 1 << 30},
        },
        {"name": "other", "format": "FP32", "not_run": "it is not installed"},
    ],
}


def changed(**values: Any) -> dict[str, Any]:
    return {**copy.deepcopy(FACTS), **values}


def write(folder: Path, *results: dict[str, Any]) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(results))]
    for path, facts in zip(paths, results, strict=True):
        path.write_text(json.dumps(facts))
    return paths


def test_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faster = changed(stages_ms={"denoise": {"p50": 15.0}, "edit": {"p50": 25.0}}, session={"threads": 4})
    found = compare.ratios([(FACTS, faster), (FACTS, FACTS)])
    assert found["denoise"] == [2, 1]
    assert found["edit"] == [1.6, 1]
    assert "host step" not in found  # it took no time
    compare.main(write(tmp_path, FACTS, faster, FACTS, FACTS))
    out = capsys.readouterr().out
    assert out.startswith("differs: session.threads (2 and 4)\n")
    (line,) = [line.split() for line in out.splitlines() if line.strip().startswith("denoise")]
    assert line == ["denoise", "30", "22.5", "1.5", "1", "2"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"parameters": {"steps": 4}}, "parameters.steps (2 and 4)"),
        ({"size": 128}, "size (64 and 128)"),
        ({"model_sha256": "1"}, "model_sha256 (0 and 1)"),
    ],
)
def test_different_edits_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any], said: str
) -> None:
    with pytest.raises(typer.Exit) as exit_:
        compare.main(write(tmp_path, FACTS, changed(**other)))
    assert exit_.value.exit_code == 2
    assert f"measured different edits: {said}\n" in capsys.readouterr().out


def test_results_of_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The runs that both have; one that only one of them has is no obstacle."""
    faster = copy.deepcopy(RUN)
    faster["environment"]["versions"]["torch"] = "2.14"
    faster["sides"][1] |= {"median_s": 1.0, "ratios": [4.0]}
    before, after = {"runs": [RUN, RUN | {"size": 128}]}, {"runs": [faster]}
    found = compare.ratios([(before, after)])
    assert found["m 64 px: pixrt, s"] == [2]
    assert found["m 64 px: pixrt, of diffusers FP32"] == [2]
    assert not any("128" in name or "other" in name for name in found)
    compare.main(write(tmp_path, before, after))
    assert capsys.readouterr().out.startswith("differs: m 64 False.versions.torch (2.13 and 2.14)\n")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"runs": [RUN | {"scale_to": 4}]}, "scale_to (20 and 4)"),
        ({"runs": [RUN | {"size": 32}]}, "no run is in both"),
        (FACTS, "one is of pixrt bench"),
    ],
)
def test_other_results_of_peers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any], said: str
) -> None:
    with pytest.raises(typer.Exit):
        compare.main(write(tmp_path, {"runs": [RUN]}, other))
    assert said in capsys.readouterr().out


def test_half_a_pair_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        compare.main(write(tmp_path, FACTS))
    assert "1 is an odd number of files" in capsys.readouterr().out
