"""Edits of held-out photographs against their computed answers. Must not import PyTorch."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pixrt.errors import OptionError
from pixrt_export.evaluation.accuracy import EditorFunction, OnProgress, Picture, psnr_db, worst_block
from pixrt_export.evaluation.statistics import Mean, Share
from pixrt_export.photo.instructions import ALL_KINDS, Instruction
from pixrt_export.photo.judge import find_mistake
from pixrt_export.photo.pairs import PhotoPairs
from pixrt_export.world.sheet import SheetRow, contact_sheet


@dataclass(frozen=True, slots=True)
class PhotoCase:
    """One question: a held-out crop, what is asked of it, and in which words."""

    source: Picture
    instruction: Instruction
    text: str

    @property
    def kind(self) -> str:
        """One of ALL_KINDS."""
        return self.instruction.kind


@dataclass(frozen=True, slots=True)
class PhotoVerdict:
    """How one case went.

    Attributes:
        mistake: the wrong answer that the edit is nearest to; empty if the right one is nearest.
        psnr_db: to the right answer.
        worst_block: RMS error of the worst square of an eighth of the side, in levels of 255.
        pictures: source, edit and right answer, if they were to be kept.
    """

    kind: str
    text: str
    mistake: str
    psnr_db: float
    worst_block: float
    pictures: tuple[Picture, Picture, Picture] | None


@dataclass(frozen=True, slots=True)
class PhotoReport:
    """Verdicts, one at least, and what they come to."""

    verdicts: tuple[PhotoVerdict, ...]

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

    def by_kind(self) -> "dict[str, PhotoReport]":
        """A report per kind of edit, those that were asked."""
        groups = {kind: tuple(verdict for verdict in self.verdicts if verdict.kind == kind) for kind in ALL_KINDS}
        return {kind: PhotoReport(group) for kind, group in groups.items() if group}

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"overall": self._facts(), "kinds": {kind: part._facts() for kind, part in self.by_kind().items()}}

    def _facts(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy.facts(),
            "psnr_db": self.psnr_db.facts(),
            "worst_block": self.worst_block.facts(),
            "mistakes": self.mistakes,
        }


def photo_cases(count: int, size: int, *, seed: int = 0, kind: str | None = None) -> list[PhotoCase]:
    """`count` held-out crops [size, size, 3] with one instruction each; the kinds take turns, unless it is one.

    Raises OptionError, PackageMissing and PictureError.
    """
    if kind is not None and kind not in ALL_KINDS:
        raise OptionError(f"no kind of edit is called {kind!r}", remedy=f"Choose one of {', '.join(ALL_KINDS)}")
    kinds = ALL_KINDS if kind is None else (kind,)
    cases = []
    for index in range(count):
        pairs = PhotoPairs(count, seed, "held-out", kinds[index % len(kinds)])
        cases.append(PhotoCase(pairs.source(index, size), *pairs.ask(index)))
    return cases


def photo_accuracy(
    edit: EditorFunction,
    cases: Sequence[PhotoCase],
    *,
    batch: int = 8,
    keep: int = 0,
    on_progress: OnProgress = lambda done, total: None,
) -> PhotoReport:
    """Edit every case, `batch` at a time, and judge what comes out; the first `keep` of each kind keep their pictures.

    Raises OptionError if `edit` changes the size.
    """
    verdicts: list[PhotoVerdict] = []
    kept: Counter[str] = Counter()
    on_progress(0, len(cases))
    for start in range(0, len(cases), batch):
        asked = cases[start : start + batch]
        results = edit([case.source for case in asked], [case.text for case in asked])
        for case, result in zip(asked, results, strict=True):
            if result.shape != case.source.shape:
                raise OptionError(
                    f"a picture of {list(case.source.shape)} was edited into one of {list(result.shape)}",
                    remedy="Leave resize and resolution at what keeps the size",
                )
            kept[case.kind] += 1
            verdicts.append(_judge(case, result, kept[case.kind] <= keep))
        on_progress(len(verdicts), len(cases))
    return PhotoReport(tuple(verdicts))


def reconstruction_psnr_db(cases: Sequence[PhotoCase], reconstructed: Sequence[Picture]) -> Mean:
    """PSNR of what an autoencoder makes of the first sources, or of their parts: the most that edits can come to."""
    pairs = zip(cases, reconstructed, strict=False)
    return Mean.of(psnr_db(made, case.source[: made.shape[0], : made.shape[1]]) for case, made in pairs)


def photo_sheet(verdicts: Iterable[PhotoVerdict]) -> Image.Image:
    """The edits whose pictures were kept: source, edit, right answer, and whether the edit is right."""
    rows = [
        SheetRow(
            verdict.pictures,
            f"{f'wrong ({verdict.mistake})' if verdict.mistake else 'right'}, {verdict.psnr_db:.1f} dB: {verdict.text}",
            not verdict.mistake,
        )
        for verdict in sorted(verdicts, key=lambda verdict: ALL_KINDS.index(verdict.kind))
        if verdict.pictures
    ]
    return contact_sheet(rows, titles=("source", "edit", "right answer"), side=160)


def _judge(case: PhotoCase, result: Picture, keep: bool) -> PhotoVerdict:
    answer = case.instruction.apply(case.source)
    return PhotoVerdict(
        kind=case.kind,
        text=case.text,
        mistake=find_mistake(case.source, case.instruction, result),
        psnr_db=psnr_db(result, answer),
        worst_block=worst_block(result, answer),
        pictures=(case.source, result, answer) if keep else None,
    )
