"""`pixrt batch` killed and resumed, as a user's machine would do it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
GALLERY = Path(__file__).parent.parent.parent / "benchmarks" / "gallery.py"


def test_killed_twice_and_resumed(tmp_path: Path) -> None:
    """All good ones done, the broken ones told, every result a single edit's byte for byte."""
    words = [str(tmp_path / "work"), "--count", "80", "--broken", "5", "--steps", "2", "--singles", "1"]
    done = subprocess.run([sys.executable, GALLERY, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 reported, 75 of 75 results equal" in done.stdout
    assert done.stdout.count("killed with") == 2
