"""Measured figures in the pages are those of the results that stand beside them."""

import json
from pathlib import Path

import pytest

import tables
from pixrt.bundles.store import open_bundle
from pixrt.options.ladder import LEVERS, preset_values


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.name)
def test_the_pages_say_what_the_results_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables.with_tables(text) == text, "run python docs/tables.py"


def test_every_result_stands_in_a_page() -> None:
    said = "".join(page.read_text(encoding="utf-8") for page in tables.pages())
    for result in tables.RESULTS.glob("*.json"):
        assert f"<!-- {result.stem} -->" in said
        assert f"<!-- /{result.stem} -->" in said


def test_a_figure_that_was_typed_is_found() -> None:
    page = "<!-- photo -->\n99.9 % right\n<!-- /photo -->"
    assert "99.9" not in tables.with_tables(page)


def test_without_a_result_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    page = tables.with_tables("<!-- peers -->\n2.0 times as fast\n<!-- /peers -->")
    assert tables.NOT_MEASURED in page
    assert "2.0" not in page


def test_the_table_of_peers_says_who_was_not_run_and_why() -> None:
    left_out = {"name": "other", "format": "FP32", "not_run": "it is not installed"}
    ran = {"name": "pixrt", "format": "BF16", "not_run": None, "psnr_db": 45.25, "median_s": 0.5}
    ran |= {"ratios": [1.5, 2.0, 2.5], "peak_memory_bytes": 3 << 29}
    run = {"model": "m", "size": 64, "network": False, "steps": 2, "scale_to": 20, "scheduler": "euler"}
    run |= {"guidance_scale": 7.5, "image_guidance_scale": 1.5, "threads": 2, "repeat": 3, "rows": 3}
    run |= {"flops": 10**12, "peaks": {"formats": {"FP32": 1e12, "BF16": 4e12}}, "sides": [ran, left_out]}
    run |= {"environment": {"processor": "p", "instructions": ["avx2"], "versions": {"torch": "2", "optimum": None}}}
    table = tables.peers({"runs": [run, run | {"network": True}]})
    assert "| pixrt | 0.5 | 2.00 (1.50 to 2.50) | 1.50 | 45.2 |" in table
    assert "| pixrt | 0.5 | 2.00 (1.50 to 2.50) | 1.50 | 2000 | 50 % |" in table
    assert "scaled to 20 steps" in table
    assert "Not run: other: it is not installed." in table


def test_the_figures_are_those_of_the_model_that_ships() -> None:
    result = json.loads((tables.RESULTS / "photo.json").read_text())
    assert result["model_sha256"] == open_bundle("demo").manifest.source.sha256, "run pixrt eval photo --edits 500"


def test_the_photograph_table_has_every_kind() -> None:
    result = json.loads((tables.RESULTS / "photo.json").read_text())
    lines = tables.photo(result).splitlines()
    for kind, part in result["kinds"].items():
        (line,) = (line for line in lines if line.startswith(f"| {kind} |"))
        assert f"{part['psnr_db']['mean']:.1f}" in line


def test_the_ladder_of_the_model_of_scenes_is_what_was_measured() -> None:
    """Presets lose no more than the page says, and save what it says."""
    result = json.loads((tables.RESULTS / "less-work.json").read_text())
    manifest = open_bundle("shapes", verify=False).manifest
    assert result["model_sha256"] == manifest.source.sha256
    settings = ("steps", "scheduler", "branch_interval", "cache_interval")
    measured = {
        tuple(line[name] for name in settings): line
        for line in result["lines"]
        if line["edits"] == result["edits"] and line["guidance_interval"] == [0, 1]
    }
    work = []
    for rung in manifest.defaults.ladder:
        line = measured[tuple(getattr(rung, name) for name in settings)]
        assert line["loss"] <= {"fast": 1, "turbo": 3}[rung.preset]
        work.append(line["work"])
    assert work == sorted(work, reverse=True)
    for levers in (LEVERS, {"branch_interval"}):
        for preset, times in (("fast", 2.5), ("turbo", 6)):
            chosen = preset_values(preset, manifest.defaults, levers)
            assert measured[tuple(chosen[name] for name in settings)]["times_less"] >= times
