"""How many replicas there should be: by what they have before them, as Ray Serve decides, with its delays."""

import math
from dataclasses import dataclass

EVERY_S = 5.0  # between two looks at the fleet
UP_S, DOWN_S, START_S = 10.0, 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Scaling:
    """Between `least` and `most` replicas, so that each has `target_s` seconds of work before it.

    Attributes:
        up_after_s: more are started if that long every look has asked for more.
        down_after_s: some are drained if that long every look has asked for fewer.
        start_s: from the decision to the first request: a machine, a process, a bundle, a warm-up.
    """

    least: int
    most: int
    target_s: float
    up_after_s: float = UP_S
    down_after_s: float = DOWN_S
    start_s: float = START_S

    def wanted(self, backlog_s: float) -> int:
        """Replicas for so many seconds of work, the sum of all."""
        return min(max(math.ceil(backlog_s / self.target_s), self.least), self.most)


class Scaler:
    """Looks, and waits until it has seen enough."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._since = 0.0  # when looks began to ask for more, or for fewer
        self._sign = 0
        self._seen: list[int] = []

    def look(self, backlog_s: float, replicas: int, now: float) -> int:
        """How many there should be now; `replicas` are those that are ready or starting.

        The most modest of what has been asked for since: a burst that is over starts none.
        """
        wanted = self._scaling.wanted(backlog_s)
        sign = (wanted > replicas) - (wanted < replicas)
        if sign != self._sign or sign == 0:
            self._since, self._sign, self._seen = now, sign, []
        self._seen.append(wanted)
        after = self._scaling.up_after_s if sign > 0 else self._scaling.down_after_s
        if sign == 0 or now - self._since < after:
            return replicas
        self._since, modest = now, min(self._seen) if sign > 0 else max(self._seen)
        self._seen = []
        return modest
