"""Linear combinations of arrays with fixed coefficients, formed without allocating. Imports only numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Zero-dimensional float32 arrays: NumPy takes them without allocating, unlike Python numbers.
Coefficient = NDArray[np.float32]
# A linear combination: the sum of coefficient times array.
Terms = tuple[tuple[Coefficient, NDArray[Any]], ...]


def make_terms(*pairs: tuple[float, NDArray[Any]]) -> Terms:
    """The combination of these pairs, without what is multiplied by zero: it need not be read."""
    return tuple((coefficient(factor), array) for factor, array in pairs if factor != 0.0)


def coefficient(value: float) -> Coefficient:
    """A number as a zero-dimensional float32 array."""
    return np.array(value, np.float32)


def combine(terms: Terms, out: NDArray[np.float32], scratch: NDArray[np.float32]) -> None:
    """Write the sum of coefficient times array over `terms` (one at least) into `out`; all of one shape."""
    factor, array = terms[0]
    np.multiply(array, factor, out=out)
    for factor, array in terms[1:]:
        np.multiply(array, factor, out=scratch)
        np.add(out, scratch, out=out)
