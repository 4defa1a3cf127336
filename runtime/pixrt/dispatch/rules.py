"""What a device can have at once. Must not import anything but the standard library."""

from collections.abc import Iterable
from dataclasses import dataclass

from pixrt.dispatch.lane import Lane


@dataclass(frozen=True, slots=True)
class Rules:
    """See the module.

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
