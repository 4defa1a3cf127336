"""Contact sheets of what was measured. Must not import PyTorch."""

from collections.abc import Sequence

from PIL import Image

from pixrt_export.evaluation.accuracy import WorldReport
from pixrt_export.evaluation.text_to_image import Sample
from pixrt_export.world.sheet import SheetRow, contact_sheet


def world_edits_sheet(report: WorldReport) -> Image.Image:
    """The edits that the report kept, kind by kind: source, edit, right answer, and whether the edit is right."""
    rows = []
    for kind, part in report.by_kind().items():
        for verdict in part.verdicts:
            if verdict.picture is None:
                continue
            size = len(verdict.picture)
            pictures = (verdict.case.source(size), verdict.picture, verdict.case.answer(size))
            outcome = f"wrong ({verdict.mistake})" if verdict.mistake else "spoiled" if verdict.spoiled else "right"
            rows.append(SheetRow(pictures, f"{kind}, {outcome}: {verdict.case.text}", verdict.right))
    return contact_sheet(rows, titles=("source", "edit", "right answer"), side=128)


def samples_sheet(samples: Sequence[Sample]) -> Image.Image:
    """Generated pictures with their captions; under a wrong one also what was found on it."""
    rows = []
    for sample in samples:
        found = "" if sample.right else f" (found: {sample.sight})"
        rows.append(SheetRow((sample.picture,), f"{sample.caption}{found}", sample.right))
    return contact_sheet(rows, titles=("",), across=6, side=192, lines=6)
