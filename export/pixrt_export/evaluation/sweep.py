"""Edit accuracy over both guidance scales: what following the instruction costs of the source. No PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pixrt.errors import OptionError
from pixrt_export.evaluation.accuracy import EditFunction, edit_accuracy
from pixrt_export.evaluation.cases import WorldCase
from pixrt_export.evaluation.report import OnProgress
from pixrt_export.evaluation.statistics import Mean, Share


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What one pair of scales gave; `source_similarity` is 1 - RMSE to the source."""

    guidance_scale: float
    image_guidance_scale: float
    accuracy: Share
    psnr_db: Mean
    source_similarity: Mean

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "guidance_scale": self.guidance_scale,
            "image_guidance_scale": self.image_guidance_scale,
            "accuracy": self.accuracy.facts(),
            "psnr_db": self.psnr_db.facts(),
            "source_similarity": self.source_similarity.facts(),
        }


def sweep_scales(
    make_edit: Callable[[float, float], EditFunction],
    cases: Sequence[WorldCase],
    guidance_scales: Sequence[float],
    image_guidance_scales: Sequence[float],
    *,
    size: int,
    batch: int = 16,
    on_progress: OnProgress = lambda done, total: None,
) -> list[SweepPoint]:
    """Measure every pair of scales on the same cases; `make_edit(sT, sI)` gives the edit function of a pair.

    Raises OptionError if there is no scale, or the same twice.
    """
    for scales in (guidance_scales, image_guidance_scales):
        if not scales or len(set(scales)) != len(scales):
            raise OptionError(f"the scales are {list(scales)}", remedy="Give one at least, and none twice")
    pairs = [(text, image) for text in guidance_scales for image in image_guidance_scales]
    points = []
    for number, (text, image) in enumerate(pairs):
        before = number * len(cases)

        def tell(done: int, _: int, *, before: int = before) -> None:
            on_progress(before + done, len(pairs) * len(cases))

        report = edit_accuracy(make_edit(text, image), cases, size=size, batch=batch, on_progress=tell)
        points.append(SweepPoint(text, image, report.accuracy, report.psnr_db, report.source_similarity))
    return points
