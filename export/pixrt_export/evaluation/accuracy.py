"""Edit accuracy in the procedural world: the share of edits that are nearest to the right one of all answers.

Must not import PyTorch: the trainer measures its own networks through any function `(pictures, texts) -> pictures`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixrt.editor.editor import Editor
from pixrt.options.parameters import EditParameters
from pixrt_export.evaluation.cases import WorldCase
from pixrt_export.evaluation.report import OnProgress, Picture, Report, judge_all
from pixrt_export.evaluation.statistics import Mean, Share
from pixrt_export.world.instructions import KINDS, Instruction, single_instructions
from pixrt_export.world.judge import answers, nearest

EditFunction: TypeAlias = Callable[[NDArray[np.uint8], Sequence[str]], Iterable[Picture]]
"""Pictures [B, H, W, 3] and a text for each to B pictures, in an array or a list."""
EditorFunction: TypeAlias = Callable[[Iterable[Picture], Sequence[str]], list[Picture]]
"""An edit function that takes pictures of any sizes too."""

PSNR_CAP_DB = 60.0  # of two pictures that are the same, or nearly: a mean over infinity says nothing
UNEDITED = "unedited"
BLOCKS = 8  # squares along the shorter side of a picture, of which the worst counts
# An RMS error of a quarter of the range in one square is seen at once: a bar, a hole, a shape too many.
SPOILED = 64.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one case went.

    Attributes:
        mistake: the wrong answer that the edit is nearest to, in a word or two; empty if the right one is nearest.
        psnr_db: to the right answer.
        worst_block: of the squares of an eighth of the shorter side, the largest RMS error to the right answer, in
            levels of 255. A mean over the picture hides a small part that is badly wrong.
        source_similarity: 1 - RMSE to the source, of values from 0 to 1: 1 is the source itself.
        picture: the edit, if it was to be kept.
    """

    case: WorldCase
    mistake: str
    psnr_db: float
    worst_block: float
    source_similarity: float
    picture: Picture | None

    @property
    def kind(self) -> str:
        """Of its instruction."""
        return self.case.kind

    @property
    def right(self) -> bool:
        """Whether the right answer is the nearest."""
        return not self.mistake

    @property
    def spoiled(self) -> bool:
        """Whether it is right on the whole, and badly wrong in one place."""
        return self.right and self.worst_block > SPOILED


@dataclass(frozen=True, slots=True)
class WorldReport(Report[Verdict]):
    """What the verdicts on held-out scenes come to."""

    kinds: ClassVar[Sequence[str]] = KINDS

    @property
    def spoiled(self) -> Share:
        """The share that counts as right and is badly wrong in one place."""
        return Share.of(verdict.spoiled for verdict in self.verdicts)

    @property
    def source_similarity(self) -> Mean:
        """1 - RMSE to the source, mean over the cases."""
        return Mean.of(verdict.source_similarity for verdict in self.verdicts)

    def _more(self) -> dict[str, Any]:
        return {"spoiled": self.spoiled.facts(), "source_similarity": self.source_similarity.facts()}


def edit_accuracy(
    edit: EditFunction,
    cases: Sequence[WorldCase],
    *,
    size: int,
    batch: int = 16,
    keep: int = 0,
    on_progress: OnProgress = lambda done, total: None,
) -> WorldReport:
    """Edit every case at [size, size], `batch` at a time, and judge what comes out.

    The first `keep` pictures of each kind stay in the report. Raises OptionError if `edit` changes the size.
    """
    verdicts = judge_all(
        lambda sources, texts: edit(np.stack(sources), texts),
        cases,
        lambda case: case.source(size),
        _judge,
        batch=batch,
        keep=keep,
        on_progress=on_progress,
    )
    return WorldReport(verdicts)


def editor_function(editor: Editor, parameters: EditParameters, *, seed: int = 0) -> EditorFunction:
    """An editor as an edit function; the noise has the seeds `seed`, `seed` + 1 and so on, one per picture."""
    numbers = itertools.count(seed)

    def edit(pictures: Iterable[Picture], texts: Sequence[str]) -> list[Picture]:
        options: EditParameters = {**parameters, "seed": list(itertools.islice(numbers, len(texts)))}
        return [np.asarray(result.image) for result in editor.edit(list(pictures), list(texts), **options)]

    return edit


def editor_at_scales(
    editor: Editor, parameters: EditParameters, *, seed: int = 0
) -> Callable[[float, float], EditorFunction]:
    """`editor_function` for any guidance scale and image guidance scale; each pair begins with the same noise."""

    def make_edit(guidance_scale: float, image_guidance_scale: float) -> EditorFunction:
        scales: EditParameters = {"guidance_scale": guidance_scale, "image_guidance_scale": image_guidance_scale}
        return editor_function(editor, {**parameters, **scales}, seed=seed)

    return make_edit


def _judge(case: WorldCase, source: Picture, picture: Picture, keep: bool) -> Verdict:
    kinds, candidates = answers(case.scene, case.instruction, len(source))
    choice = nearest(picture, candidates)
    return Verdict(
        case=case,
        mistake=_mistake(case, kinds, choice),
        psnr_db=psnr_db(picture, candidates[0]),
        worst_block=worst_block(picture, candidates[0]),
        source_similarity=1 - _rmse(picture, source),
        picture=picture if keep else None,
    )


def _mistake(case: WorldCase, kinds: Sequence[str], choice: int) -> str:
    """Name the candidate that was nearest: the right one is the first, the unedited the second."""
    if choice == 0:
        return ""
    if kinds[choice] == UNEDITED:
        return UNEDITED
    others = (instruction for instruction in single_instructions(case.scene) if instruction != case.instruction)
    return difference(case.instruction, next(itertools.islice(others, choice - 2, None)))


def difference(asked: Instruction, done: Instruction) -> str:
    """How one edit that was done differs from what was asked, in a word or two; else the kind of what was done."""
    (got,) = done.edits
    if got in asked.edits:
        return "one of two"
    return next(filter(None, (_slip(want.name, want.shape, got.name, got.shape) for want in asked.edits)), done.kind)


def _slip(want: str, want_shape: str, got: str, got_shape: str) -> str:
    resizes = ("bigger", "smaller")
    if want_shape == got_shape:
        if want == got:
            return "other shape" if want == "replace" else "other colour"
        return "other way" if want in resizes and got in resizes else ""
    return "other object" if want == got else ""


def psnr_db(picture: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in dB, at most PSNR_CAP_DB."""
    rmse = _rmse(picture, other)
    return min(PSNR_CAP_DB, -20 * float(np.log10(rmse))) if rmse > 0 else PSNR_CAP_DB


def worst_block(picture: Picture, answer: Picture) -> float:
    """RMS error of the worst square of an eighth of the shorter side, in levels of 255; a row's last may be less."""
    height, width = answer.shape[:2]
    side = max(1, min(height, width) // BLOCKS)
    error = (picture.astype(np.float64) - answer.astype(np.float64)) ** 2
    squares = (error[y : y + side, x : x + side] for y in range(0, height, side) for x in range(0, width, side))
    return max(float(np.sqrt(square.mean())) for square in squares)


def _rmse(picture: Picture, other: Picture) -> float:
    """Root mean squared error of values from 0 to 1."""
    difference = picture.astype(np.float64) - other.astype(np.float64)
    return float(np.sqrt(np.mean(difference**2))) / 255
