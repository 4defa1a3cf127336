"""The driver's version, asked of a real library: the simulated one. In a process of its own."""

from typing import Any

import pytest

from pixrt.backends.driver import describe_driver, driver_cuda, driver_problem

pytestmark = pytest.mark.simulated


def test_the_driver_is_asked_without_a_context(loaded: Any) -> None:
    before = loaded.counters()
    found = driver_cuda()
    assert found is not None
    assert describe_driver() == f"runs CUDA {found[0]}.{found[1]} at most"
    assert driver_problem(found[0]) is None
    assert f"needs the NVIDIA driver, and the one here runs CUDA {found[0]}" in str(driver_problem(found[0] + 1))
    assert loaded.counters() == before
