"""Nothing that pixrt runs tells anybody outside of it."""

import os
import socket
import subprocess
import sys

import pytest

from shapes import BLUE, SCENE

# Longer than ONNX Runtime waits before it sends what it has gathered: it did after 2 to 13 seconds.
EDIT = f"""
import time
from pixrt import Editor
with Editor("shapes", backend="ort-cpu") as editor:
    editor.edit({str(SCENE)!r}, {BLUE!r}, steps=1, seed=1)
    time.sleep(15)
"""


@pytest.mark.parametrize(
    "first", ["import pixrt.backends.ort", "from pixrt_export.quiet import quiet_libraries; quiet_libraries()"]
)
def test_onnx_runtime_is_told_before_it_is_imported(first: str) -> None:
    code = f"import os, sys; {first}; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "False"]


@pytest.mark.slow
def test_an_edit_connects_to_nobody() -> None:
    """The way out is said to be a port of ours, at which nobody may knock."""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        way = f"http://127.0.0.1:{outside.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), way)
        environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | proxies
        subprocess.run([sys.executable, "-c", EDIT], env=environment, check=True, timeout=120)
        outside.settimeout(0.5)
        with pytest.raises(TimeoutError):
            outside.accept()
