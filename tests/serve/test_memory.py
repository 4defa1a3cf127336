"""Memory that the server's processes keep for the next picture."""

import platform
import subprocess
import sys

import pytest

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
