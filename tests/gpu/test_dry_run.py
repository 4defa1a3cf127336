"""The report for a GPU, to its end without one: over the simulated driver, in processes of its own."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exported import Exports
from gpu_report import NOT_RUN, PARTS, ROOT, Part, environment, run_part

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(importlib.util.find_spec("pycuda") is None, reason="pycuda is not installed"),
]


def given(small: Path | None) -> argparse.Namespace:
    return argparse.Namespace(small=small, full=None, dry_run=True, steps=3)


def test_a_dry_run_comes_to_its_end(exports: Exports, tmp_path: Path) -> None:
    output, bundle = tmp_path / "report.json", exports.bundle("sd1", "fp32")
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_report.py"), "--dry-run", "--small", str(bundle)]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True, env=environment(None))
    report = json.loads(output.read_text())
    parts: dict[str, Any] = report["parts"]
    assert done.returncode == 0, parts
    assert {name: part["ending"] for name, part in parts.items()} == {
        **dict.fromkeys(("driver", "loop", "host"), "passed"),
        **dict.fromkeys(("sanitizer", "full-size", "tensorrt"), "not run"),
    }
    assert {parts[name]["why"] for name in ("sanitizer", "full-size", "tensorrt")} == {"no GPU"}
    assert parts["loop"]["found"]["fused, as it is"] == {"picture_max": 0, "captured run equals the first": True}
    assert parts["loop"]["found"]["fused, bytes left by further edits"] == 0
    assert "Simulated CUDA device" in parts["driver"]["found"]["on"]


def test_what_was_found_before_a_cut_is_kept(tmp_path: Path) -> None:
    sleeper = tmp_path / "gpu_report.py"  # a part that tells something, and goes on for ever
    answer = '{"first": "passed"}'
    sleeper.write_text(
        "import sys, time, pathlib\n"
        f"pathlib.Path(sys.argv[sys.argv.index('--answer') + 1]).write_text('{answer}')\n"
        "print('where it was', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu_report.__file__", str(sleeper))
        made = run_part(Part("driver", "driver", 2), given(None), tmp_path / "scratch", None)
    assert (made["ending"], made["why"]) == ("cut off after 2 s", "where it was")
    assert made["found"] == {"first": "passed"}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    (part,) = (part for part in PARTS if part.name == "loop")
    made = run_part(part, given(None), tmp_path / "scratch", None)
    assert (made["ending"], made["why"].splitlines()[-1]) == ("not run", "no small bundle: give --small")
    assert NOT_RUN not in (0, 1)


def test_a_wrong_copy_is_noticed(tmp_path: Path) -> None:
    """The checks of the driver can fail: here each copy comes to nothing."""
    code = (
        "import sys; from gpu_parts import driver, session\n"
        "from pathlib import Path\n"
        "s = session.Session(small=None, full=None, dry_run=True, scratch=Path('.'), answer=Path(sys.argv[1]))\n"
        "s.driver()\n"
        "from pixrt.backends.cuda.device import Device\n"
        "Device.copy = lambda *a, **k: None\n"
        "driver.run(s)\n"
    )
    answer = tmp_path / "answer.json"
    command = [sys.executable, "-c", code, str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(None))
    assert done.returncode == 1
    assert "failed: within_the_device, graphs, spoilt_captures" in done.stderr
    assert json.loads(answer.read_text())["threads"] == "passed"
