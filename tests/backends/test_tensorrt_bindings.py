"""Every call that pixrt makes of TensorRT's Python classes exists, with its arguments, in the real bindings.

The table of their signatures was read from NVIDIA's wheels by `trt_bindings.py`: TensorRT 10.3 to 11.4, RTX 1.5 to 1.7.
"""

import gzip
import json
import re

import pytest

from trt_bindings import TABLE, signatures
from trt_calls import ENGINES, GUARDED, ROOT, RUNTIME, Use, uses

SIGNATURES: dict[str, dict[str, list[str]]] = json.loads(gzip.decompress(TABLE.read_bytes()))
VERSIONS = sorted({version for found in SIGNATURES.values() for versions in found.values() for version in versions})


def problem(use: Use, version: str) -> str | None:
    """Why a version of a library does not take a use, or None."""
    found = [text for text, versions in SIGNATURES.get(use.member, {}).items() if version in versions]
    if not found and use.member in GUARDED:
        return None
    if not found:
        return f"{use.file}:{use.line}: {version} has no {use.member}"
    if use.positional is None or not found[0]:
        return None
    if any(takes(overload, use) for overload in found[0].splitlines()):
        return None
    return f"{use.file}:{use.line}: {use.member} of {version} is {found[0]}, called with {use.positional}"


def takes(overload: str, use: Use) -> bool:
    """Whether a signature such as "(name: str, size: int = 0)" takes as many arguments, and these keywords."""
    text = overload[1:-1]
    while (flat := re.sub(r"\[[^\[\]]*\]|\([^()]*\)", "", text)) != text:
        text = flat
    parameters = [part.partition(":")[0].strip() for part in text.split(",") if part.strip()]
    required = [part.partition(":")[0].strip() for part in text.split(",") if part.strip() and "=" not in part]
    given = {*parameters[: use.positional], *use.keywords}
    return (use.positional or 0) <= len(parameters) and given <= set(parameters) and set(required) <= given


def problems(texts: dict[str, str] | None = None) -> list[str]:
    """All of them, over every use and version."""
    found = [problem(use, v) for use in uses(texts) for v in VERSIONS if v.split()[0] in use.libraries]
    return [each for each in found if each is not None]


def test_the_table_has_the_versions() -> None:
    numbers = {
        name: [tuple(map(int, v.split()[1].split(".")[:2])) for v in VERSIONS if v.split()[0] == name]
        for name in ("tensorrt", "tensorrt_rtx")
    }
    assert (min(numbers["tensorrt"]), max(numbers["tensorrt"])) == ((10, 3), (11, 4))
    assert (min(numbers["tensorrt_rtx"]), max(numbers["tensorrt_rtx"])) == ((1, 5), (1, 7))


def test_every_call_exists_with_its_arguments() -> None:
    assert problems() == []
    assert len(uses()) > 80  # nothing is found where an expression is renamed and `trt_calls` is not


@pytest.mark.parametrize(
    ("file", "was", "becomes", "told"),
    [
        (
            f"{RUNTIME}/execution.py",
            "execute_async_v3(",
            "execute_async_v4(",
            "has no IExecutionContext.execute_async_v4",
        ),
        (f"{RUNTIME}/execution.py", "set_input_shape(tensor.name, ", "set_input_shape(", "called with 1"),
        (f"{RUNTIME}/execution.py", "_async(profile, ", "_async(", "called with 1"),
        (f"{RUNTIME}/plan.py", "device_memory_size_v2", "device_memory_size", "11.4.0.106 has no"),
        (
            f"{RUNTIME}/plan.py",
            "weight_streaming_budget_v2 = ",
            "streaming_budget = ",
            "has no ICudaEngine.streaming_b",
        ),
        (f"{ENGINES}/settings.py", '"REFIT":', '"FP16":', "tensorrt 11.4.0.106 has no BuilderFlag.FP16"),
        (f"{ENGINES}/builder.py", "network, config)", "network)", "called with 1"),
    ],
)
def test_a_call_that_does_not_exist_is_told(file: str, was: str, becomes: str, told: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert was in text
    assert told in "\n".join(problems({file: text.replace(was, becomes)}))


def test_the_table_is_what_the_installed_library_says() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    version = f"tensorrt_rtx {trt.__version__}"
    if version not in VERSIONS:
        pytest.skip(f"the table has no {version}")
    for member, found in SIGNATURES.items():
        listed = [text for text, versions in found.items() if version in versions]
        assert [signatures(trt, member)] == (listed or [None]), member
