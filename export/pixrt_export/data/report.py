"""What `check_pairs` finds in a training set. Must not import PyTorch."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pixrt.pictures.geometry import Size


class Fault(StrEnum):
    """What can be wrong with a sample."""

    MALFORMED = "malformed"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    MISPAIRED = "mispaired"
    DUPLICATE = "duplicate"
    TOO_LONG = "too long"
    SMALL = "small"


MEANINGS = {
    Fault.MALFORMED: "rows that cannot be samples",
    Fault.MISSING: "pictures that are named and not there",
    Fault.UNREADABLE: "pictures that cannot be decoded",
    Fault.MISPAIRED: "pairs of two shapes, with nothing asked or nothing changed",
    Fault.DUPLICATE: "groups of samples with the same pictures and instruction",
    Fault.TOO_LONG: "instructions of more tokens than the text encoder reads",
    Fault.SMALL: "pairs with a side that must be scaled up",
}
# What training would stop at, or learn nothing from. The others are warnings.
FATAL = (Fault.MALFORMED, Fault.MISSING, Fault.UNREADABLE, Fault.MISPAIRED)
KEPT = 1000  # findings of each sort, so that a set in which everything is wrong does not fill the memory


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: in which row of the index, with which file of the set (none: the row), and what."""

    where: str
    file: str | None
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.file, self.text) if part)


@dataclass(frozen=True, slots=True)
class DataReport:
    """The state of a training set.

    Attributes:
        samples: samples in the index, broken ones included, rows that are malformed not.
        without_source: samples of text-to-image among them.
        source_sizes, target_sizes: how many pictures have each (width, height), of those that can be read.
        counts: how many findings there are of each sort.
        findings: the first KEPT of each sort.
    """

    path: str
    samples: int
    without_source: int
    source_sizes: dict[Size, int]
    target_sizes: dict[Size, int]
    counts: dict[Fault, int]
    findings: dict[Fault, tuple[Finding, ...]]

    @property
    def fatal(self) -> int:
        """How many findings would make training fail."""
        return sum(self.counts[fault] for fault in FATAL)

    def to_json(self) -> dict[str, Any]:
        """The report for `json.dumps`; sizes are written `512x512`."""
        facts = dataclasses.asdict(self)
        for name in ("source_sizes", "target_sizes"):
            facts[name] = {f"{width}x{height}": count for (width, height), count in facts[name].items()}
        return facts | {"fatal": self.fatal}
