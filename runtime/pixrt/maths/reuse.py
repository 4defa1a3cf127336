"""What of a run is computed at each step, and what is used again: decided before it begins, of each picture by itself.

Pure. A step is one call of the network: PNDM has one more than steps. Two rules, each exact at an interval of 1:

predictions: what a branch predicted serves the step that computed it and the `interval` - 1 steps behind it, by its
    difference to what the first branch that runs (the one that sees the instruction) predicted at the same step; that
    one is computed at every step. Guidance multiplies differences, and those change slowly: a prediction that is a step
    old beside one that is not would differ by more than the instruction.
features: the deep layers' output of a branch serves the step that computed it and the `interval` - 1 steps behind it
    (DeepCache, Ma et al. 2023, arXiv:2312.00858). At steps 0, interval, 2 interval... it is computed in any case, so
    that the branches of a picture run the whole network at the same steps.
"""

from collections.abc import Sequence
from typing import TypeAlias

from pixrt.maths.guidance import Branch

Branches: TypeAlias = tuple[Branch, ...]


def computed_branches(running: Sequence[Branches], interval: int) -> tuple[Branches, ...]:
    """Of each step the branches that are computed, of those that run; the others' last predictions are used again."""
    if interval == 1:
        return tuple(running)
    computed, last = [], dict[Branch, int]()
    for at, branches in enumerate(running):
        now = tuple(
            branch
            for branch in branches
            if branch is branches[0] or branch not in last or at - last[branch] >= interval
        )
        last |= dict.fromkeys(now, at)
        computed.append(now)
    return tuple(computed)


def shallow_branches(computed: Sequence[Branches], interval: int) -> tuple[Branches, ...]:
    """Of each step the branches, of those that are computed, whose deep layers' last output is used again."""
    if interval == 1:
        return ((),) * len(computed)
    shallow, last = [], dict[Branch, int]()
    for at, branches in enumerate(computed):
        again = tuple(branch for branch in branches if at % interval and at - last.get(branch, -interval) < interval)
        last |= dict.fromkeys((branch for branch in branches if branch not in again), at)
        shallow.append(again)
    return tuple(shallow)


def without(branches: Branches, others: Branches) -> Branches:
    """The branches that are not among the others, in their order."""
    return tuple(branch for branch in branches if branch not in others)
