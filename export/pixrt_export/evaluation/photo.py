"""Edits of held-out photographs against their computed answers. Must not import PyTorch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from pixrt.errors import OptionError
from pixrt_export.evaluation.accuracy import EditorFunction, psnr_db, worst_block
from pixrt_export.evaluation.report import OnProgress, Picture, Report, judge_all
from pixrt_export.evaluation.statistics import Mean
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
class PhotoReport(Report[PhotoVerdict]):
    """What the verdicts on held-out photographs come to."""

    kinds: ClassVar[Sequence[str]] = ALL_KINDS


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
    judged = judge_all(edit, cases, lambda case: case.source, _judge, batch=batch, keep=keep, on_progress=on_progress)
    return PhotoReport(judged)


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


def _judge(case: PhotoCase, source: Picture, result: Picture, keep: bool) -> PhotoVerdict:
    answer = case.instruction.apply(source)
    return PhotoVerdict(
        kind=case.kind,
        text=case.text,
        mistake=find_mistake(source, case.instruction, result),
        psnr_db=psnr_db(result, answer),
        worst_block=worst_block(result, answer),
        pictures=(source, result, answer) if keep else None,
    )
