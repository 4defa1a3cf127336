"""Company is free of rounding on the CPU: a row is, bit for bit, what it is alone, however many there are."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from exported import Exports
from pixrt.backends.protocol import Array, BoundCall
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle, open_bundle
from pixrt.options.session import SessionOptions

MOST_ROWS = 24


def bound(name: str, bundle: Bundle, size: tuple[int, int], threads: int) -> tuple[BoundCall, dict[str, Array]]:
    """The UNet on arrays of random rows."""
    engine = open_backend(name, bundle, SessionOptions(threads=threads)).backend.open(bundle, Component.UNET)
    sizes = {
        "batch": MOST_ROWS,
        "height": size[0],
        "width": size[1],
        "tokens": bundle.manifest.tokenizers[0].max_length,
    }
    draw, arrays = np.random.default_rng(0), {}
    for tensor in (*engine.inputs, *engine.outputs):
        shape = [size if isinstance(size, int) else sizes[size] for size in tensor.shape]
        arrays[tensor.name] = engine.allocate(shape, tensor.dtype)
        arrays[tensor.name][...] = draw.standard_normal(shape)
    arrays["timestep"][:] = draw.uniform(0, 999, MOST_ROWS)
    return engine.bind(arrays), arrays


def alone(run: BoundCall, arrays: dict[str, Array]) -> Array:
    """Every row by itself, at the first place."""
    given = {name: array.copy() for name, array in arrays.items()}
    made = []
    for row in range(MOST_ROWS):
        for name, array in arrays.items():
            array[0] = given[name][row]
        run(1)
        made.append(arrays["out_sample"][0].copy())
    for name, array in given.items():
        arrays[name][...] = array
    return np.stack(made)


def check(run: BoundCall, arrays: dict[str, Array]) -> None:
    expected = alone(run, arrays)
    assert np.isfinite(expected).all()
    for count in range(1, MOST_ROWS + 1):
        arrays["out_sample"].fill(np.nan)
        run(count)
        np.testing.assert_array_equal(arrays["out_sample"][:count], expected[:count], err_msg=f"{count} rows")
        assert np.isnan(arrays["out_sample"][count:]).all()


OPENVINO = pytest.param("openvino", marks=pytest.mark.skipif(not find_spec("openvino"), reason="no OpenVINO"))
by_name = pytest.mark.parametrize("name", ["ort-cpu", OPENVINO])


@pytest.mark.parametrize("threads", [1, 2])
@by_name
def test_of_the_built_in_model(name: str, threads: int) -> None:
    check(*bound(name, open_bundle("shapes", verify=False), (8, 8), threads))


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
@by_name
def test_of_other_networks(exports: Exports, name: Any, kind: str) -> None:
    check(*bound(name, open_bundle(exports.bundle(kind, "fp32")), (8, 6), 2))
