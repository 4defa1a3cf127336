"""Pictures of docs/fleet.md, as SVG with its words as text: small, and the same bytes for the same figures."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixrt.files import atomic_write

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fleet",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": True,
}
_SIZE = (6.0, 3.0)  # inches
_COLOURS = ("#1f77b4", "#d95f02", "#444444")  # told apart without colour too: lines differ
_LINES = ("-", "--", ":")


def growth(facts: Mapping[str, Any], path: Path) -> None:
    """GPUs in times of the bound, by the rate: the larger a fleet, the less of it waits for chance."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for each in facts["growth"]:
        lines.setdefault(each["mix"], []).append(each)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for number, (mix, needs) in enumerate(lines.items()):
            told = [(each["rate"], each["gpus"] / each["bound"]) for each in needs if each["gpus"]]
            axes.plot(*zip(*told, strict=True), _LINES[number], marker="o", ms=4, color=_COLOURS[number], label=mix)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        most = max(line.get_ydata().max() for line in axes.lines)  # type: ignore[union-attr]
        axes.set_ylim(1, 0.5 * math.ceil(2 * min(most, 8)))
        axes.set_xlabel("requests a second")
        axes.set_ylabel("GPUs, in times of the bound")
        axes.legend(frameon=False)
        _save(figure, path)


def day(facts: Mapping[str, Any], path: Path) -> None:
    """A day: replicas that are ready, and that are paid for."""
    looks: Sequence[Sequence[float]] = facts["looks"]
    hours = [at / looks[-1][0] * 24 for at, *_ in looks]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        axes.step(hours, [look[2] for look in looks], _LINES[0], where="post", color=_COLOURS[0], label="paid for")
        axes.step(hours, [look[1] for look in looks], _LINES[1], where="post", color=_COLOURS[1], label="ready")
        fixed = next(each for each in facts["days"] if each["fleet"].startswith("fixed"))
        axes.axhline(fixed["most_gpus"], ls=_LINES[2], color=_COLOURS[2], label="fixed")
        axes.set_xticks(range(0, 25, 6))
        axes.set_ylim(0)
        axes.set_xlabel("hour of the day")
        axes.set_ylabel("GPUs")
        axes.legend(frameon=False, loc="upper left")
        _save(figure, path)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    """Two digits of a point are enough; matplotlib's comments and blanks are not needed."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<!--.*?-->\n?", "", file.getvalue(), flags=re.DOTALL)
    text = re.sub(r"(\d+\.\d\d)\d+", r"\1", re.sub(r" +$", "", text, flags=re.MULTILINE))
    with atomic_write(path) as out:
        out.write(re.sub(r"\n\s*\n+", "\n", text).encode())
