"""What a file says of one layer, by the names of its tensors, and the change of the weight that they make.

    lora_down, lora_up             up @ down                  LoRA (Hu et al. 2021, arXiv:2106.09685)
    with lora_mid                  a kernel between them      LoCon with Tucker factors (LyCORIS)
    hada_w1_a ... hada_w2_b        (a b) * (a b)              LoHa (Hyeon-Woo et al. 2022, arXiv:2108.06098)
    lokr_w1, lokr_w2, or factors   w1 kron w2                 LoKr (Yeh et al. 2024, arXiv:2309.14859)

The arithmetic is LyCORIS', which peft has too. Must not import anything of pixrt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]
Matrix = NDArray[np.float64]
Parts = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What one file adds to one layer at scale 1.

    `shape` is `[out, n]`: n is the inputs, times the kernel's size. `rank` is what alpha is divided by, 0 for a change
    that has none. `matrix` computes it.
    """

    shape: tuple[int, int]
    rank: int
    matrix: Callable[[], Matrix]


def change_of(parts: Parts) -> Change | None:
    """The change that a layer's tensors make, by their roles; None where one is missing or they do not go together."""
    if missing_of(parts) or any(part.ndim < 2 or 0 in part.shape for part in parts.values()):
        return None
    if "down" in parts:
        return _low_rank(parts)
    return _hadamard(parts) if "hada_w1_a" in parts else _kronecker(parts)


def missing_of(parts: Mapping[str, object]) -> str:
    """The role that is missing beside those that are there; "" if none is."""
    given = parts.keys()
    if any(needed <= given for needed in _NEEDED):
        return ""
    nearest = max(_NEEDED, key=lambda needed: len(needed & given) / len(needed))
    return min(nearest - given)


def _low_rank(parts: Parts) -> Change | None:
    down, up, mid = parts["down"], _flat(parts["up"]), parts.get("mid")
    rank = up.shape[1]
    if mid is None:
        return _change(rank, up, _flat(down)) if len(down) == rank else None
    if mid.ndim < 3 or len(mid) != rank or mid.shape[1] != len(down) or _flat(down).shape[1] != down.shape[1]:
        return None
    return _tucker(rank, mid, up.T, _flat(down))


def _hadamard(parts: Parts) -> Change | None:
    first, second = (_product(parts, f"hada_w{number}", f"hada_t{number}") for number in (1, 2))
    if first is None or second is None or first.shape != second.shape:
        return None
    return Change(first.shape, first.rank, lambda: first.matrix() * second.matrix())


def _kronecker(parts: Parts) -> Change | None:
    first, second = (_product(parts, f"lokr_w{number}", f"lokr_t{number}") for number in (1, 2))
    if first is None or second is None:
        return None
    shape = first.shape[0] * second.shape[0], first.shape[1] * second.shape[1]

    def matrix() -> Matrix:
        made: Matrix = np.kron(first.matrix(), second.matrix()).astype(np.float64, copy=False)
        return made

    return Change(shape, first.rank or second.rank, matrix)


def _product(parts: Parts, name: str, kernel: str) -> Change | None:
    """A matrix as it is, or `a @ b`, or with a kernel between these."""
    if name in parts:
        return _whole(parts[name])
    a, b = _flat(parts[f"{name}_a"]), _flat(parts[f"{name}_b"])
    if kernel in parts:
        return _tucker(len(b), parts[kernel], a, b)
    return _change(len(b), a, b) if a.shape[1] == len(b) else None


def _whole(values: Tensor) -> Change:
    flat = _flat(values)
    return Change((flat.shape[0], flat.shape[1]), 0, lambda: flat)


def _change(rank: int, a: Matrix, b: Matrix) -> Change:
    return Change((a.shape[0], b.shape[1]), rank, lambda: a @ b)


def _tucker(rank: int, kernel: Tensor, a: Matrix, b: Matrix) -> Change | None:
    """`sum_ij kernel[i, j] a[i] b[j]`: kernel `[r, r, ...]`, a `[r, out]`, b `[r, in]`."""
    if kernel.shape[:2] != (len(a), len(b)):
        return None
    core = kernel.reshape(len(a), len(b), -1).astype(np.float64)

    def matrix() -> Matrix:
        made: Matrix = np.einsum("ijk,ip,jr->prk", core, a, b, optimize=True)
        return made.reshape(len(made), -1)

    return Change((a.shape[1], b.shape[1] * core.shape[2]), rank, matrix)


def _flat(values: Tensor) -> Matrix:
    """`[n, rest]`: a 1x1 kernel, or none, is the same; a larger one goes with the inputs."""
    return values.reshape(values.shape[0], -1).astype(np.float64)


_HADAMARD = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_HALVES = [[{f"lokr_w{number}"}, {f"lokr_w{number}_a", f"lokr_w{number}_b"}] for number in (1, 2)]
_NEEDED = [{"down", "up"}, _HADAMARD, *(first | second for first in _HALVES[0] for second in _HALVES[1])]
