"""What only a GPU can show: `python -m pytest -m gpu` builds, compares, measures, and writes `gpu-report-LIBRARY.json`.

`PIXRT_GPU_BUNDLE` names a bundle to take instead of `shapes`'s checkpoint in FP16, `PIXRT_GPU_SIZE` a size.
These tests have not been run where they were written.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kept import writable_copy

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
# FP16 has 11 bits; guidance multiplies the rounding of every branch, and four steps carry it on.
LATENTS, PICTURE_MEAN = 5e-2, 2.0


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt-rtx"])
def library(request: pytest.FixtureRequest) -> str:
    from pixrt.errors import PackageMissing
    from pixrt_engines.library import open_library

    try:
        open_library(request.param)
    except PackageMissing as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    given = os.environ.get("PIXRT_GPU_BUNDLE")
    writable_copy(Path(given) if given else request.getfixturevalue("exports").bundle("shapes", "fp16"), folder)
    return folder


@pytest.fixture(scope="session")
def size(bundle: Path) -> tuple[int, int]:
    from pixrt.bundles.store import open_bundle
    from pixrt_engines.options import parse_sizes

    side = open_bundle(bundle, verify=False).manifest.native_resolution
    return parse_sizes(os.environ.get("PIXRT_GPU_SIZE", f"{side}x{side}"))[0]


@pytest.fixture(scope="session")
def made(bundle: Path, library: str, size: tuple[int, int]) -> dict[str, Any]:
    from gpu_report import report

    answer = report(bundle, library, size)
    Path(f"gpu-report-{library}.json").write_text(json.dumps(answer, indent=1) + "\n")
    return answer


def test_latents_and_pictures_are_the_cpus(made: dict[str, Any]) -> None:
    for row in made["parity"]:
        for name in ("fused", "unfused", "without graphs"):
            assert row[name]["latents"] < LATENTS, (row["scheduler"], name)
            assert row[name]["picture_mean"] < PICTURE_MEAN, (row["scheduler"], name)


def test_a_captured_run_is_the_first_run(made: dict[str, Any]) -> None:
    assert all(row["captured run equals the first"] for row in made["parity"])


def test_the_device_never_waits_for_the_host(made: dict[str, Any]) -> None:
    if "PIXRT_GPU_BUNDLE" not in os.environ:
        pytest.skip("the model `shapes` is small: its steps may be shorter than a launch")
    assert 0 < made["latency"]["host_ms"] < made["latency"]["step_ms"]


def test_edits_leave_no_memory_behind(made: dict[str, Any], bundle: Path, library: Any, size: tuple[int, int]) -> None:
    """Of the whole device: nothing else may use it meanwhile."""
    from gpu_report import picture
    from pixrt import Editor

    with Editor(bundle, backend=library) as editor:

        def round_of_edits() -> int:
            for seed in range(8):
                editor.edit(picture(size, seed), f"text {seed}", seed=seed, steps=2, resolution=max(size))
            return int(editor._backend.context.device.memory()[0])  # type: ignore[attr-defined]

        round_of_edits()
        before = round_of_edits()
        for _ in range(20):
            after = round_of_edits()
    assert before - after < 2**20


def test_the_doctor_sees_it(made: dict[str, Any], bundle: Path, library: str) -> None:
    from pixrt.backends.registry import backend_statuses
    from pixrt.bundles.store import open_bundle

    statuses = {status.name: status for status in backend_statuses(open_bundle(bundle))}
    assert statuses[library].available, statuses[library].reason
    assert "MiB free" in statuses[library].reason
