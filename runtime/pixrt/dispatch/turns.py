"""Whose turn it is among the lanes of a device. Must not import anything but the standard library."""

from collections.abc import Iterable
from dataclasses import dataclass

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.lane import Lane


@dataclass(frozen=True, slots=True)
class Rules:
    """What a device can have at once.

    Attributes:
        buckets: with pictures in a pool; None is any number.
        variants: other weights with pictures in a pool, beside the network's own (`()`); None is any number.
        phased: one stage's network is open at a time.
    """

    buckets: int | None = None
    variants: int | None = None
    phased: bool = False

    def eligible(self, lanes: Iterable[Lane]) -> list[Lane]:
        """Lanes that may go on; others wait until one of those in a pool is empty."""
        lanes = [lane for lane in lanes if lane.is_ready]
        if len(lanes) < 2 or (self.buckets is None and self.variants is None):
            return lanes
        inside = [lane for lane in lanes if lane.in_pool]
        outside = sorted((lane for lane in lanes if not lane.in_pool), key=lambda lane: lane.first.order)
        variants = {lane.bucket.variant for lane in inside} - {()}
        for lane in outside:
            if self.buckets is not None and len(inside) >= self.buckets:
                break
            variant = lane.bucket.variant
            if variant != () and variant not in variants and len(variants) == self.variants:
                continue
            inside.append(lane)
            variants |= {variant} - {()}
        return [lane for lane in lanes if lane in inside]


def next_lane(lanes: dict[Bucket, Lane], eligible: list[Lane], share: float, haste: int) -> Lane:
    """The lane whose turn it is, of those that are eligible; `lanes` are all of them. Both are in the order of turns.

    Deficit round robin in seconds (Shreedhar and Varghese 1995): lanes share the device whatever a call costs. A lane
    goes on while it has some of its share left; what a call takes beyond it is owed. One that is alone owes nobody, and
    in haste nobody owes: it is the lane of what is due first.
    """
    if haste or len(eligible) == 1:
        lane = eligible[0] if len(eligible) == 1 else min(eligible, key=lambda lane: lane.first.order)
        lane.deficit = 0.0
        return lane
    while eligible[0].deficit <= 0:  # its turn is over: it goes to the end of the line, with a share for its next one
        lane = eligible.pop(0)
        lane.deficit += share
        eligible.append(lane)
        lanes[lane.bucket] = lanes.pop(lane.bucket)
    return eligible[0]


def share_of(eligible: list[Lane], costs: Costs) -> float:
    """Seconds of a turn: the longest of these lanes' usual calls."""
    if len(eligible) == 1:
        return 0.0
    return max(costs.step(lane.bucket, costs.caps(lane.bucket)[0]) for lane in eligible)
