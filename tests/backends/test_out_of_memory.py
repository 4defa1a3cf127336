"""A real lack of memory is told as one, whatever the library calls it."""

import subprocess
import sys

import pytest

from pixrt.backends.registry import backend_statuses
from pixrt.bundles.store import open_bundle

STATUSES = {status.name: status.available for status in backend_statuses(open_bundle("shapes"))}
SCRIPT = """
import resource
import sys

import numpy as np

from pixrt import Editor
from pixrt.errors import OutOfMemory

with Editor("shapes", backend=sys.argv[1], threads=1) as editor:
    small = np.zeros((64, 64, 3), np.uint8)
    editor.edit(small, "make it red", steps=1, seed=1)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (300 << 20), limit[1]))
    try:
        editor.edit(np.zeros((1600, 1600, 3), np.uint8), "make it red", steps=1, resolution=1600)
    except OutOfMemory:
        print("out of memory")
    resource.setrlimit(resource.RLIMIT_AS, limit)
    editor.edit(small, "make it red", steps=1, seed=1)
    print("goes on")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", [name for name in ("ort-cpu", "openvino") if STATUSES[name]])
def test_it_is_told_and_the_next_picture_is_made(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n")[:2] == ["out of memory", "goes on"], done.stderr[-2000:]
