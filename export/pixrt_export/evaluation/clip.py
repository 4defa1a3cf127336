"""Edits of photographs in CLIP's space, as the InstructPix2Pix paper measures them (figure 8 of arXiv:2211.09800).

Image similarity: the cosine of the CLIP embeddings of input and output, how much of the source is kept. Direction
similarity (Gal et al. 2021, arXiv:2108.00946): the cosine of the change between the pictures and the change between
their captions, how well the edit does what was asked. Must not import PyTorch: `clip_network` embeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import OptionError
from pixrt.pictures.images import PictureSource, load_picture
from pixrt_export.evaluation.report import OnProgress, Picture
from pixrt_export.evaluation.statistics import Mean

Vectors: TypeAlias = NDArray[np.float64]  # [N, D], or [N]
PAPER_GUIDANCE_SCALE = 7.5


@dataclass(frozen=True, slots=True)
class CaptionedEdit:
    """A picture, what is to be done to it, and what is on it before and after."""

    image: PictureSource
    instruction: str
    input_caption: str
    output_caption: str


class Embedder(Protocol):
    """CLIP: pictures and texts as vectors of one space, of any length."""

    def pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """Embed pictures [H, W, 3]."""
        ...

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts."""
        ...


EditPhotos: TypeAlias = Callable[[Sequence[Picture], Sequence[str]], Sequence[Picture]]
"""Pictures of any size and a text for each to as many edits."""


@dataclass(frozen=True, slots=True)
class ClipPoint:
    """The two similarities under one pair of scales, means over the samples."""

    guidance_scale: float
    image_guidance_scale: float
    image_similarity: Mean
    direction_similarity: Mean

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "guidance_scale": self.guidance_scale,
            "image_guidance_scale": self.image_guidance_scale,
            "image_similarity": self.image_similarity.facts(),
            "direction_similarity": self.direction_similarity.facts(),
        }


def clip_curve(
    make_edit: Callable[[float, float], EditPhotos],
    samples: Sequence[CaptionedEdit],
    embedder: Embedder,
    image_guidance_scales: Sequence[float],
    guidance_scale: float = PAPER_GUIDANCE_SCALE,
    *,
    batch: int = 4,
    on_progress: OnProgress = lambda done, total: None,
) -> list[ClipPoint]:
    """Both similarities of the same samples under every image guidance scale.

    `make_edit(sT, sI)` gives the edit function of a pair of scales. Raises OptionError for no scale, PictureError.
    """
    if not image_guidance_scales or not samples:
        raise OptionError(
            f"{len(samples)} samples and {len(image_guidance_scales)} scales", remedy="Give one of each at least"
        )
    edits = [make_edit(guidance_scale, scale) for scale in image_guidance_scales]
    found: list[list[tuple[Vectors, Vectors]]] = [[] for _ in edits]
    total = len(samples) * len(edits)
    on_progress(0, total)
    # Batch by batch, all scales of one: the sources are encoded once, and never all in memory.
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        sources = [load_picture(sample.image).rgb for sample in part]
        before = embedder.pictures(sources)
        text_before = embedder.texts([sample.input_caption for sample in part])
        text_after = embedder.texts([sample.output_caption for sample in part])
        for number, edit in enumerate(edits):
            after = embedder.pictures(edit(sources, [sample.instruction for sample in part]))
            direction = direction_similarity(before, after, text_before, text_after)
            found[number].append((image_similarity(before, after), direction))
            on_progress(start * len(edits) + (number + 1) * len(part), total)
    return [
        ClipPoint(guidance_scale, scale, *(Mean.of(np.concatenate(values)) for values in zip(*parts, strict=True)))
        for scale, parts in zip(image_guidance_scales, found, strict=True)
    ]


def image_similarity(before: Vectors, after: Vectors) -> Vectors:
    """Cosines of the pictures' embeddings before and after: [N]."""
    return _cosines(before, after)


def direction_similarity(before: Vectors, after: Vectors, text_before: Vectors, text_after: Vectors) -> Vectors:
    """Cosines of the change of the pictures and the change of their captions: [N].

    Between embeddings of length 1, as published. 0 if nothing changed: an edit that does nothing goes nowhere.
    """
    return _cosines(_unit(after) - _unit(before), _unit(text_after) - _unit(text_before))


def _unit(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, _SMALLEST)


def _cosines(one: Vectors, other: Vectors) -> Vectors:
    products: Vectors = (_unit(one) * _unit(other)).sum(axis=1)
    return products


_SMALLEST = 1e-8  # a length, as in PyTorch's cosine_similarity
