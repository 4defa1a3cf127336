"""Whether a model is good enough: bounds on what was measured. Must not import PyTorch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from pixrt.errors import OptionError, PixrtError
from pixrt_export.evaluation.statistics import Mean, Share


class Judged(Protocol):
    """What was measured on edits whose right answers are known."""

    @property
    def accuracy(self) -> Share:
        """The share that is right."""
        ...

    @property
    def psnr_db(self) -> Mean:
        """PSNR to the right answers."""
        ...

    @property
    def worst_block(self) -> Mean:
        """RMS error of the worst square of each, in levels of 255."""
        ...

    def by_kind(self) -> Mapping[str, Self]:
        """The same of every kind of instruction."""
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """The least that will do, of the worst square's error the most; None is no bound.

    Raises OptionError for shares that are not from 0 to 1.
    """

    accuracy: float | None = None
    kind_accuracy: float | None = None
    psnr_db: float | None = None
    worst_block: float | None = None

    def __post_init__(self) -> None:
        for share in (self.accuracy, self.kind_accuracy):
            if share is not None and not 0 <= share <= 1:
                raise OptionError(f"the bound on an accuracy is {share:g}", remedy="Give a share from 0 to 1")

    def require(self, report: Judged) -> None:
        """Raise PixrtError, with every figure that is too low, unless the report passes."""
        _require(list(self._missed(report)))

    def require_share(self, name: str, share: Share) -> None:
        """The same of one share, against the bound on the accuracy."""
        _require(list(_below(name, share, self.accuracy)))

    def _missed(self, report: Judged) -> Iterator[str]:
        yield from _below("the edit accuracy", report.accuracy, self.accuracy)
        for kind, part in report.by_kind().items():
            yield from _below(f"that of {kind}", part.accuracy, self.kind_accuracy)
        if self.psnr_db is not None and report.psnr_db.value < self.psnr_db:
            yield f"the PSNR is {report.psnr_db.value:.2f} dB, below {self.psnr_db:g}"
        if self.worst_block is not None and report.worst_block.value > self.worst_block:
            yield f"the worst square's error is {report.worst_block.value:.1f} levels, above {self.worst_block:g}"


def _below(name: str, share: Share, bound: float | None) -> Iterator[str]:
    if bound is not None and share.value < bound:
        yield f"{name} is {100 * share.value:.1f} % ({share.hits} of {share.count}), below {100 * bound:g} %"


def _require(missed: list[str]) -> None:
    if missed:
        raise PixrtError(f"not good enough: {'; '.join(missed)}", remedy="Train on, or lower the bounds")
