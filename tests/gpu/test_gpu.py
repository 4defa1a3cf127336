"""What only a GPU can show: every part of `benchmarks/gpu_report.py`, `python -m pytest -m gpu`.

`PIXRT_GPU_BUNDLE` names a full-size bundle. These tests have not been run where they were written.
"""

import argparse
import os
from pathlib import Path

import pytest

from exported import Exports
from gpu_report import PARTS, Part, run_part

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.torch]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_of_the_report(part: Part, exports: Exports, tmp_path: Path) -> None:
    full = os.environ.get("PIXRT_GPU_BUNDLE")
    given = argparse.Namespace(
        small=exports.bundle("sd1", "fp32"), full=Path(full) if full else None, dry_run=False, steps=20
    )
    made = run_part(part, given, tmp_path / "scratch", None)
    if made["ending"] == "not run":
        pytest.skip(made["why"])
    assert made["ending"] == "passed", made["why"]
