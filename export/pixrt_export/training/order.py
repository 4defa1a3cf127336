"""What is random in a training run, as pure functions of the seed and the step. Must not import PyTorch.

Nothing is carried from one step to the next, so a run that is resumed draws what it would have drawn.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def samples_of(seed: int, count: int, first: int, number: int) -> list[int]:
    """Indices of samples `first` to `first + number` of an endless sequence of shuffled passes over `count` samples."""
    return [int(_order(seed, at // count, count)[at % count]) for at in range(first, first + number)]


def seed_of(seed: int, *place: int) -> int:
    """A seed of 63 bits for one place in the run, such as (step, micro-step, process)."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
