"""The double of TensorRT's runtime has the real libraries' names and parameters."""

import gzip
import inspect
import json
import re
from typing import Any

import pytest

import simulated_rtx
import simulated_tensorrt
from mutations import MUTATIONS, mutated
from trt_bindings import TABLE

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


@pytest.mark.parametrize(("owner", "method", "parameters"), called())
def test_against_the_table_of_every_version(owner: str, method: str, parameters: list[str]) -> None:
    """See `trt_bindings`. A property has no signature."""
    table = json.loads(gzip.decompress(TABLE.read_bytes()))[f"{owner}.{method}"]
    for signature in table:
        assert parameters in [names(text) for text in signature.splitlines() or [""]]


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
