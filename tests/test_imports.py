"""What importing pixrt costs, and that the runtime needs nothing of the exporter."""

import json
import subprocess
import sys

import pytest

HEAVY = [
    "onnxruntime",
    "openvino",
    "torch",
    "transformers",
    "diffusers",
    "optimum",
    "onnx",
    "safetensors",
    "PIL",
    "tokenizers",
]
HEAVY += ["tensorrt", "tensorrt_rtx", "pycuda", "cuda", "filelock", "pixrt_engines.building"]


def modules_after(code: str, *flags: str) -> set[str]:
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, *flags, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(json.loads(out.splitlines()[-1]))


def test_import_pixrt_loads_nothing_heavy() -> None:
    loaded = modules_after("import pixrt; pixrt.EditOptions(steps=3)")
    assert not loaded & {*HEAVY, "numpy", "typer", "rich"}


def test_the_command_line_loads_no_engine() -> None:
    assert not modules_after("import pixrt.cli") & set(HEAVY)


def test_an_edit_scans_no_plugins_and_needs_no_pytorch() -> None:
    """The runtime edits in a process where everything of the exporter is missing."""
    missing = ["torch", "transformers", "diffusers", "optimum", "onnx", "safetensors", "huggingface_hub", "scipy"]
    code = f"""
import sys
for name in {missing}: sys.modules[name] = None
import numpy as np, pixrt
with pixrt.Editor() as editor:
    editor.edit(np.zeros((64, 64, 3), np.uint8), "make it darker", steps=1).image
"""
    loaded = modules_after(code)
    assert "onnxruntime" in loaded
    assert "PIL.TiffImagePlugin" not in loaded
    assert "PIL.IcnsImagePlugin" not in loaded


def test_every_public_name_is_there() -> None:
    import pixrt

    for name in pixrt.__all__:
        assert getattr(pixrt, name) is not None
    assert set(pixrt.__all__) <= set(dir(pixrt))
    with pytest.raises(AttributeError, match="nothing"):
        _ = pixrt.nothing
