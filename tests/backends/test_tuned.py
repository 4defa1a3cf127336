"""What `pixrt tune` measured is used where it holds, told where it does not, and never makes auto less exact."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from pixrt.backends import registry, tuned
from pixrt.backends.registry import LADDER, Opened, circumstances_of, open_backend
from pixrt.backends.tuned import Curve, Measured, Tuning, keep, place
from pixrt.bundles.manifest import MANIFEST_NAME
from pixrt.bundles.store import BUILT_IN, Bundle, open_bundle
from pixrt.options.session import SessionOptions
from shapes import BLUE, Run

pytest.importorskip("openvino")
CURVE = (Curve(pictures=1, rows=3, p50_ms=5, least_ms=4, most_ms=6),)
SHAPES = open_bundle("shapes", verify=False)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def measured(backend: str, ms: float, **given: Any) -> Measured:
    usual = {"precision": "fp32", "least_ms": ms - 1, "most_ms": ms + 1, "levels": 0, "is_exact": True, "curve": CURVE}
    return Measured(backend=backend, edit_ms=ms, **{**usual, **given})


def tuning(*each: Measured, bundle: Bundle = SHAPES, threads: int | None = None, size: int = 64) -> Tuning:
    return Tuning(circumstances=circumstances_of(bundle, threads), size=size, made="2026-01-01", measured=each)


FASTER = measured("ort-cpu", 90), measured("openvino", 60)
SLOWER = measured("ort-cpu", 60), measured("openvino", 90)


def opened(bundle: Bundle = SHAPES, threads: int | None = None) -> Opened:
    return open_backend("auto", bundle, SessionOptions(threads=threads))


def test_without_a_measurement_the_ladder_is_as_it_stands() -> None:
    found = opened()
    assert (found.backend.name, found.reason, found.note) == ("ort-cpu", None, None)
    assert registry.ladder(registry.advice_for(SHAPES)) == LADDER


def test_the_fastest_is_taken_and_told() -> None:
    keep(tuning(*FASTER))
    found = opened()
    assert (found.backend.name, found.note) == ("openvino", None)
    assert found.reason == "`pixrt tune` measured an edit at 64 px on 2026-01-01: openvino 60 ms, ort-cpu 90 ms"
    assert [status.name for status in found.passed_over] == [info.name for info in LADDER if not info.is_on_cpu]
    keep(tuning(*SLOWER))
    assert opened().backend.name == "ort-cpu"


def test_what_is_kept_is_read_back() -> None:
    kept = tuning(*FASTER, measured("openvino", 30, precision="bf16", is_exact=False))
    keep(kept)
    assert registry.advice_for(SHAPES).tuning == kept


@pytest.mark.parametrize("inexact", [{"precision": "bf16", "is_exact": False}, {"levels": 9, "is_exact": False}])
def test_speed_does_not_come_before_parity(inexact: dict[str, Any]) -> None:
    keep(tuning(measured("ort-cpu", 90), measured("openvino", 1, **inexact)))
    assert opened().backend.name == "ort-cpu"


def test_the_bundles_own_size_comes_first() -> None:
    native = SHAPES.manifest.native_resolution
    keep(tuning(*FASTER, size=native))
    keep(tuning(*SLOWER, size=2 * native))
    assert opened().backend.name == "openvino"
    keep(tuning(*SLOWER, size=native))
    assert opened().backend.name == "ort-cpu"


def test_a_backend_that_does_not_open_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tuning(*FASTER))
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = opened()
    assert found.backend.name == "ort-cpu"
    assert "openvino is not installed" in {status.name: status.reason for status in found.passed_over}["openvino"]


class TestItHoldsNoMore:
    @pytest.fixture(autouse=True)
    def _measured(self) -> None:
        keep(tuning(*FASTER))

    def test_another_version(self, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
        version = tuned._version
        monkeypatch.setattr(tuned, "_version", lambda name: "2031.1" if name == "openvino" else version(name))
        found = opened()
        assert (found.backend.name, found.reason) == ("ort-cpu", None)
        assert found.note is not None
        assert "is not used (openvino is 2031.1, was 2026." in found.note
        assert f"note: {found.note}\n" in run("edit", "scene.png", BLUE, "-o", "o.png", "--steps", 1).err
        assert found.note in run("inspect", "shapes").out

    def test_another_bundle_in_its_place(self, tmp_path: Path) -> None:
        place = tmp_path / "bundle"
        shutil.copytree(BUILT_IN / "shapes", place)
        same = open_bundle(place, verify=False)
        assert opened(same).backend.name == "openvino"  # a copy
        keep(tuning(*FASTER, bundle=same))
        manifest = json.loads((place / MANIFEST_NAME).read_text())
        manifest["files"]["unet.safetensors"]["sha256"] = "0" * 64
        (place / MANIFEST_NAME).write_text(json.dumps(manifest))
        found = opened(open_bundle(place, verify=False))
        assert (found.backend.name, "(the bundle has changed): run it again" in str(found.note)) == ("ort-cpu", True)

    def test_a_bundle_that_was_not_measured(self) -> None:
        found = opened(open_bundle("demo", verify=False))
        assert (found.backend.name, found.note) == ("ort-cpu", None)

    def test_other_threads(self) -> None:
        assert (opened(threads=1).backend.name, opened(threads=1).note) == ("ort-cpu", None)
        keep(tuning(*FASTER, threads=1))
        assert opened(threads=1).backend.name == "openvino"

    def test_another_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A home folder may be that of several machines."""
        monkeypatch.setattr(tuned, "machine", lambda: "An abacus, 7 cores")
        assert (opened().backend.name, opened().note) == ("ort-cpu", None)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1, "measured": [{"size": 3}, 7]}', '{"version": 99}'])
    def test_a_file_that_cannot_be_read(self, text: str) -> None:
        place().write_text(text)
        assert (opened().backend.name, opened().note) == ("ort-cpu", None)
        keep(tuning(*FASTER))
        assert opened().backend.name == "openvino"


def test_machines_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tuning(*FASTER))
    with monkeypatch.context() as patch:
        patch.setattr(tuned, "machine", lambda: "An abacus, 7 cores")
        keep(tuning(*SLOWER))
        assert opened().backend.name == "ort-cpu"
    assert opened().backend.name == "openvino"


def test_the_file_stays_small() -> None:
    here = tuning(*FASTER)
    for number in range(3 + tuned._MOST_RECORDS):
        keep(dataclasses.replace(here, size=64 + number))
    assert len(json.loads(place().read_text())["measured"]) == tuned._MOST_RECORDS
