"""Curves of what was measured over the guidance scales, as PNG. Must not import PyTorch."""

import io
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pixrt_export.evaluation.clip import ClipPoint
from pixrt_export.evaluation.sweep import SweepPoint

ASIDE = 0.012  # of the image guidance scale, from one line to the next
_Interval = tuple[float, tuple[float, float] | None]


def sweep_plot(points: Sequence[SweepPoint], *, title: str) -> Image.Image:
    """Accuracy, PSNR and similarity to the source over the image guidance scale, a line per guidance scale."""
    panels: tuple[tuple[str, Callable[[SweepPoint], _Interval]], ...] = (
        ("edit accuracy, %", _percent),
        ("PSNR to the right answer, dB", lambda point: (point.psnr_db.value, point.psnr_db.interval)),
        (
            "similarity to the source, 1 - RMSE",
            lambda point: (point.source_similarity.value, point.source_similarity.interval),
        ),
    )
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    figure.suptitle(title)
    for axes, (label, measure) in zip(figure.subplots(1, 3), panels, strict=True):
        for number, scale in enumerate(sorted({point.guidance_scale for point in points})):
            line = sorted(
                (point for point in points if point.guidance_scale == scale), key=lambda p: p.image_guidance_scale
            )
            measured = [measure(point) for point in line]
            axes.errorbar(
                # Side by side, for bars on top of each other cannot be read.
                [point.image_guidance_scale + ASIDE * number for point in line],
                [value for value, _ in measured],
                yerr=_bars(measured),
                marker="o",
                markersize=4,
                elinewidth=0.7,
                capsize=2,
                label=f"{scale:g}",
            )
        axes.set_xlabel("image guidance scale")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, title="guidance scale", loc="outside right upper")
    return _drawn(figure)


def clip_plot(points: Sequence[ClipPoint], *, title: str) -> Image.Image:
    """Image similarity against direction similarity, a point per image guidance scale, as in the paper."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes: Axes = figure.subplots()
    across = [point.direction_similarity for point in points]
    up = [point.image_similarity for point in points]
    axes.errorbar(
        [mean.value for mean in across],
        [mean.value for mean in up],
        xerr=_bars([(mean.value, mean.interval) for mean in across]),
        yerr=_bars([(mean.value, mean.interval) for mean in up]),
        marker="o",
        markersize=4,
        elinewidth=0.7,
        capsize=2,
    )
    for point in points:
        at = (point.direction_similarity.value, point.image_similarity.value)
        axes.annotate(f"{point.image_guidance_scale:g}", at, xytext=(5, 5), textcoords="offset points", fontsize=9)
    axes.set_title(title)
    axes.set_xlabel("CLIP text-image direction similarity")
    axes.set_ylabel("CLIP image similarity")
    axes.grid(alpha=0.3)
    return _drawn(figure)


def _percent(point: SweepPoint) -> _Interval:
    low, high = point.accuracy.interval
    return 100 * point.accuracy.value, (100 * low, 100 * high)


def _bars(measured: Sequence[_Interval]) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above their values; rounding may put an end at 0 beyond its value."""
    intervals = [(value, interval or (value, value)) for value, interval in measured]
    return (
        [max(0, value - low) for value, (low, _) in intervals],
        [max(0, high - value) for value, (_, high) in intervals],
    )


def _drawn(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return Image.open(file).convert("RGB")
