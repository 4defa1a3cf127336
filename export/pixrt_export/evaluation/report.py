"""What edits with right answers come to, of whatever world they are: verdicts, counted and averaged.

Must not import PyTorch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import OptionError
from pixrt_export.evaluation.statistics import Mean, Share

Picture: TypeAlias = NDArray[np.uint8]  # [H, W, 3]
OnProgress: TypeAlias = Callable[[int, int], object]  # how many are done, of how many


class Asked(Protocol):
    """One question."""

    @property
    def kind(self) -> str:
        """Of its instruction."""
        ...

    @property
    def text(self) -> str:
        """In which words it is asked."""
        ...


class Judged(Protocol):
    """How one case went."""

    @property
    def kind(self) -> str:
        """Of its instruction."""
        ...

    @property
    def mistake(self) -> str:
        """The wrong answer that the edit is nearest to; empty if the right one is nearest."""
        ...

    @property
    def psnr_db(self) -> float:
        """To the right answer."""
        ...

    @property
    def worst_block(self) -> float:
        """RMS error of the worst square, in levels of 255."""
        ...


Case = TypeVar("Case", bound=Asked)
Verdict = TypeVar("Verdict", bound=Judged)


@dataclass(frozen=True, slots=True)
class Report(Generic[Verdict]):
    """Verdicts, one at least, and what they come to; `kinds` is the order of the kinds of instruction."""

    kinds: ClassVar[Sequence[str]] = ()

    verdicts: tuple[Verdict, ...]

    @property
    def accuracy(self) -> Share:
        """The share that is nearest to the right one of all answers."""
        return Share.of(not verdict.mistake for verdict in self.verdicts)

    @property
    def psnr_db(self) -> Mean:
        """PSNR to the right answer, mean over the cases."""
        return Mean.of(verdict.psnr_db for verdict in self.verdicts)

    @property
    def worst_block(self) -> Mean:
        """RMS error of the worst square of each, in levels of 255, mean over the cases."""
        return Mean.of(verdict.worst_block for verdict in self.verdicts)

    @property
    def mistakes(self) -> dict[str, int]:
        """How often each wrong answer was the nearest, the most frequent first."""
        return dict(Counter(verdict.mistake for verdict in self.verdicts if verdict.mistake).most_common())

    def by_kind(self) -> dict[str, Self]:
        """A report per kind of instruction, those that were asked."""
        groups = {kind: tuple(verdict for verdict in self.verdicts if verdict.kind == kind) for kind in self.kinds}
        return {kind: type(self)(group) for kind, group in groups.items() if group}

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"overall": self._facts(), "kinds": {kind: part._facts() for kind, part in self.by_kind().items()}}

    def _facts(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy.facts(),
            "psnr_db": self.psnr_db.facts(),
            "worst_block": self.worst_block.facts(),
            **self._more(),
            "mistakes": self.mistakes,
        }

    def _more(self) -> dict[str, Any]:
        """What only this world has, as JSON."""
        return {}


def judge_all(
    edit: Callable[[list[Picture], list[str]], Iterable[Picture]],
    cases: Sequence[Case],
    source_of: Callable[[Case], Picture],
    judge: Callable[[Case, Picture, Picture, bool], Verdict],
    *,
    batch: int,
    keep: int,
    on_progress: OnProgress,
) -> tuple[Verdict, ...]:
    """Edit every case, `batch` at a time, and judge what comes out: case, source, edit, whether to keep the picture.

    The pictures of the first `keep` of each kind are. Raises OptionError if `edit` changes the size.
    """
    verdicts: list[Verdict] = []
    kept: Counter[str] = Counter()
    on_progress(0, len(cases))
    for start in range(0, len(cases), batch):
        asked = cases[start : start + batch]
        sources = [source_of(case) for case in asked]
        for case, source, picture in zip(asked, sources, edit(sources, [each.text for each in asked]), strict=True):
            if picture.shape != source.shape:
                raise OptionError(
                    f"a picture of {list(source.shape)} was edited into one of {list(picture.shape)}",
                    remedy="Leave resize and resolution at what keeps the size",
                )
            kept[case.kind] += 1
            verdicts.append(judge(case, source, picture, kept[case.kind] <= keep))
        on_progress(len(verdicts), len(cases))
    return tuple(verdicts)
