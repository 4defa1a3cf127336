"""The double of TensorRT's runtime has the real libraries' names and parameters."""

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import simulated_rtx
import simulated_tensorrt
from mutations import MUTATIONS, mutated

CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "Refitter", "OnnxParserRefitter", "Weights")
RTX_CLASSES = ("ICudaEngine", "IExecutionContext", "IRuntimeConfig", "IRuntimeCache")
# What the double has for itself, beside the library's.
OWN = {("ICudaEngine", "open")}


def called(module: Any = simulated_tensorrt, classes: tuple[str, ...] = CLASSES) -> list[tuple[str, str, list[str]]]:
    """Every public method of a double: class, name, parameters without self; properties have none."""
    found = []
    for name in classes:
        for method, value in vars(getattr(module, name)).items():
            if method.startswith("_") or (name, method) in OWN:
                continue
            if inspect.isfunction(value):
                found.append((name, method, list(inspect.signature(value).parameters)[1:]))
            elif isinstance(value, property):
                found.append((name, method, []))
    return found


@pytest.mark.parametrize(("owner", "method", "parameters"), called() + called(simulated_rtx, RTX_CLASSES))
def test_against_the_installed_rtx_library(owner: str, method: str, parameters: list[str]) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    real = getattr(getattr(trt, owner), method)
    if isinstance(real, property):
        assert not parameters
        return
    # The bindings give their signatures in the documentation, one line for each overload.
    overloads = re.findall(rf"{method}\(self: [\w.]+(?:, )?(.*)\) ->", real.__doc__)
    assert parameters in [names(text) for text in overloads]


def names(signature: str) -> list[str]:
    """The parameters' names in "a: int, b: Mode = <Mode.FAST: 0>"."""
    return re.findall(r"(\w+): ", re.sub(r"<[^<>]*>", "", signature))


def stub() -> dict[str, str]:
    """The text of each class in the stubs. They are no valid Python, so nothing parses them."""
    spec = importlib.util.find_spec("tensorrt_bindings")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = [path for folder in folders for path in Path(folder).glob("tensorrt.pyi")]
    text = paths[0].read_text(encoding="utf-8") if paths else ""
    return {part[: re.search(r"\W", part).start()]: part for part in re.split(r"^class ", text, flags=re.M)[1:]}  # type: ignore[union-attr]


@pytest.mark.parametrize(("owner", "method", "parameters"), called())
def test_against_the_stubs_of_tensorrt(owner: str, method: str, parameters: list[str]) -> None:
    classes = stub()
    if not classes:
        pytest.skip("tensorrt-stubs is not installed")
    found = re.findall(rf"^    def {method}\(self(?:, )?(.*)\) ->", classes[owner], re.MULTILINE)
    found += re.findall(rf"^    {method}: .*?()$", classes[owner], re.MULTILINE)
    assert parameters in [names(text) for text in found]


def test_the_logger_and_the_strategies() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    for name in ("ERROR", "INTERNAL_ERROR", "WARNING", "INFO", "VERBOSE"):
        assert hasattr(trt.ILogger, name)
        assert hasattr(simulated_tensorrt.ILogger, name)
    ours = {member.name for member in simulated_tensorrt.ExecutionContextAllocationStrategy}
    assert ours == set(trt.ExecutionContextAllocationStrategy.__members__)
    assert {member.name for member in simulated_tensorrt.TensorIOMode} == set(trt.TensorIOMode.__members__)
    assert trt.nptype(trt.DataType.HALF) is not None
    kernels = {member.name for member in simulated_rtx.DynamicShapesKernelSpecializationStrategy}
    assert kernels == set(trt.DynamicShapesKernelSpecializationStrategy.__members__)
    assert isinstance(trt.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy, property)


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_can_be_made(name: str) -> None:
    """`mutations.py` takes minutes and is run by hand: here it is only held against the code as it is."""
    compile(mutated(name), name, "exec")
