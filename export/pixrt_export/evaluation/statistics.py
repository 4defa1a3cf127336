"""Shares and means with their 95 % confidence intervals. Pure maths."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` out of `count`, one at least."""

    hits: int
    count: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> "Share":
        """Count what is true."""
        listed = list(outcomes)
        return cls(sum(listed), len(listed))

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (Wilson 1927), which holds for few cases and for shares near 0 and 1 too."""
        found = stats.binomtest(self.hits, self.count).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        low, high = self.interval
        return {"share": self.value, "low": low, "high": high, "hits": self.hits, "count": self.count}

    def __str__(self) -> str:
        """For example "37.5 % (28.5 to 47.5)"."""
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True, slots=True)
class Loss:
    """By how much one share is less than another of the same cases: `lost` of `count` are hits there only, `won` here.

    In points, of a hundred; below 0 where more were won.
    """

    lost: int
    won: int
    count: int

    @classmethod
    def of(cls, there: Iterable[bool], here: Iterable[bool]) -> "Loss":
        """Count the cases in which both differ; what one of them has more is left out."""
        pairs = list(zip(there, here, strict=False))
        return cls(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs), len(pairs))

    @property
    def value(self) -> float:
        """In points."""
        return 100 * (self.lost - self.won) / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Bonett's and Price's adjusted Wald interval (2012), which is not empty where no case differs."""
        count = self.count + 2
        lost, won = (self.lost + 1) / count, (self.won + 1) / count
        reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * np.sqrt((lost + won - (lost - won) ** 2) / count)
        return 100 * float(lost - won - reach), 100 * float(lost - won + reach)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `count` values, and its interval, which a single value does not have."""

    value: float
    interval: tuple[float, float] | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Mean":
        """The mean of one value at least, with Student's interval of a mean."""
        listed = np.asarray(list(values), np.float64)
        value, count = float(listed.mean()), len(listed)
        if count < 2:
            return cls(value, None, count)
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * listed.std(ddof=1) / np.sqrt(count))
        return cls(value, (value - reach, value + reach), count)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        low, high = self.interval or (None, None)
        return {"mean": self.value, "low": low, "high": high, "count": self.count}

    def text(self, digits: int) -> str:
        """For example "18.45 ± 0.55": the mean, and how far its interval reaches to either side."""
        reach = "" if self.interval is None else f" ± {self.interval[1] - self.value:.{digits}f}"
        return f"{self.value:.{digits}f}{reach}"
