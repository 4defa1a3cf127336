"""Linear combinations of arrays with fixed coefficients, formed without allocating. Imports only numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Zero-dimensional float32 arrays, or [B, 1, 1, 1]: NumPy takes them without allocating, unlike Python numbers.
Coefficient = NDArray[np.float32]
# A linear combination: the sum of coefficient times array.
Terms = tuple[tuple[Coefficient, NDArray[Any]], ...]
Factor = float | NDArray[np.float64]


def make_terms(*pairs: tuple[Factor, NDArray[Any]]) -> Terms:
    """The combination of these pairs, without what is multiplied by zero: it need not be read."""
    return tuple((coefficient(factor), array) for factor, array in pairs if np.any(factor))


def coefficient(value: Factor) -> Coefficient:
    """A number for the whole batch, or one per picture `[B]`, as a float32 array to multiply `[B, C, h, w]` by."""
    values = np.asarray(value, np.float32)
    if values.ndim == 0:
        return values
    return np.array(values[0]) if (values == values[0]).all() else values[:, None, None, None]


def combine(terms: Terms, out: NDArray[np.float32], scratch: NDArray[np.float32]) -> None:
    """Write the sum of coefficient times array over `terms` (one at least) into `out`; all of one shape."""
    factor, array = terms[0]
    np.multiply(array, factor, out=out)
    add_terms(terms[1:], out, scratch)


def add_terms(terms: Terms, out: NDArray[np.float32], scratch: NDArray[np.float32]) -> None:
    """Add the sum of coefficient times array over `terms` to `out`."""
    for factor, array in terms:
        np.multiply(array, factor, out=scratch)
        np.add(out, scratch, out=out)
