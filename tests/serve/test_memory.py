"""Memory of the server's processes: what they keep for the next picture, have, and may have."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixrt.serve.memory import limit_bytes, resident_bytes

# Several arrays together are more than glibc keeps by itself.
WORDS = """
import resource
import numpy as np
from pixrt.serve.memory import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [np.ones((3, 512, 512), np.float32) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = min(faults() for _ in range(10))
keep_memory()
print(usual, min(faults() for _ in range(10)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what is freed")
def test_large_arrays_are_not_taken_anew_from_the_system() -> None:
    said = subprocess.run([sys.executable, "-c", WORDS], check=True, capture_output=True, text=True).stdout
    usual, kept = map(int, said.split())
    assert usual > 700  # of 3,072 pages
    assert kept < 10


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not told")
def test_what_a_process_has() -> None:
    before = resident_bytes()
    taken = np.ones(64 << 20, np.uint8)
    assert resident_bytes(os.getpid()) - before == pytest.approx(taken.nbytes, rel=0.2)
    assert resident_bytes(2**22 + 1) == 0, "there is no such process"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not told")
def test_what_processes_may_have(tmp_path: Path) -> None:
    machine = limit_bytes(tmp_path)
    assert 1 << 28 < machine < 1 << 50
    (tmp_path / "memory.max").write_text("max\n")
    assert limit_bytes(tmp_path) == machine
    (tmp_path / "memory.max").write_text("1000000\n")
    assert limit_bytes(tmp_path) == 1_000_000
