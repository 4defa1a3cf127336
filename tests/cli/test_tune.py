"""`pixrt tune`: what it prints and keeps. Whatever the figures, only exact backends are taken."""

import json
from pathlib import Path

import pytest

from pixrt.backends.registry import BACKENDS, advice_for
from pixrt.bundles.store import open_bundle
from pixrt.cli import tune as command
from shapes import BLUE, Run, files

QUICK = ("tune", "shapes", "--rounds", 2, "--steps", 3, "--max-batch", 2, "--threads", 1)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    # The null backend is the fastest there is, and its pictures are wrong.
    monkeypatch.setattr(command, "ON_CPU", tuple(info for info in BACKENDS if info.name in ("ort-cpu", "null")))


def test_the_command(run: Run, tmp_path: Path) -> None:
    outcome = run(*QUICK, "--json", "t.json")
    assert outcome.code == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines() if line.strip()]
    assert [(row[0], row[-1]) for row in rows if row[:1] in (["ort-cpu"], ["null"])][:2] == [
        ("ort-cpu", "it"),
        ("null", "never"),
    ]
    facts = json.loads((tmp_path / "t.json").read_text())
    assert (facts["size"], facts["auto"]) == (64, ["ort-cpu"])
    exact, wrong = facts["measured"]
    assert exact["levels"] == 0
    assert wrong["levels"] > 1
    for each in facts["measured"]:
        assert each["least_ms"] <= each["edit_ms"] <= each["most_ms"]
        assert [(point["pictures"], point["rows"]) for point in each["curve"]] == [(1, 3), (2, 6)]
        assert len(each["cost"]["whole_ms"]) == 3
        assert each["cost"]["shallow_ms"] == []  # there is no such network
        assert 0 < each["cost"]["beside_ms"] < each["edit_ms"]
    assert str(tmp_path) not in (tmp_path / "t.json").read_text()
    tuning = advice_for(open_bundle("shapes", verify=False), 1).tuning
    assert tuning is not None
    assert [each.backend for each in tuning.measured] == ["ort-cpu", "null"]
    words = ("edit", "scene.png", BLUE, "-o", "b.png", "--threads", 1, "--json", "--budget-ms")
    chosen = run(*words, 86_400_000)
    assert (json.loads(chosen.out)["parameters"]["steps"], "the budget chose 20 steps" in chosen.err) == (20, True)
    assert json.loads(chosen.out)["expected_ms"] > exact["cost"]["whole_ms"][2]
    too_little = run(*words, 1, "--overwrite")
    assert (too_little.code, "budget_ms is 1, and the least here" in too_little.err) == (2, True)
    assert (
        run("edit", "scene.png", "--from", "b.png", "-o", "c.png", "--threads", 2).code == 0
    )  # not measured, nor asked
    done = run("edit", "scene.png", BLUE, "-o", "o.png", "--steps", 1, "--threads", 1, "--json")
    assert (json.loads(done.out)["backend"], "pixrt tune" in done.err) == ("ort-cpu", False)
    assert files(tmp_path) == {"scene.png", "t.json", "o.png", "b.png", "c.png"}
    again = run(*QUICK, "--json", "t.json")
    assert (again.code, "t.json exists already" in again.err) == (7, True)


def test_one_that_does_not_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ort-cuda", "ort-cpu")
    monkeypatch.setattr(command, "ON_CPU", tuple(info for info in BACKENDS if info.name in names))
    outcome = run(*QUICK[:-4], "--max-batch", 1)
    assert outcome.code == 0
    assert "note: ort-cuda in FP32 is not measured: ort-cuda is not available" in outcome.err
    monkeypatch.setattr(command, "ON_CPU", tuple(info for info in BACKENDS if info.name == "ort-cuda"))
    outcome = run(*QUICK)
    assert (outcome.code, "no backend of the CPU opens here" in outcome.err) == (6, True)


def test_nothing_is_measured_unasked(run: Run) -> None:
    assert run("edit", "scene.png", BLUE, "-o", "o.png", "--steps", 1).code == 0
    assert advice_for(open_bundle("shapes", verify=False)).tuning is None
    assert advice_for(open_bundle("shapes", verify=False)).note is None


@pytest.mark.parametrize("words", [("--steps", 1), ("--rounds", 0), ("--max-batch", 0)])
def test_bad_numbers(run: Run, words: tuple[object, ...]) -> None:
    outcome = run("tune", "shapes", *words)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
