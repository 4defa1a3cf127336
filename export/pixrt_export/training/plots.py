"""The curves of a run as one picture: loss, and edit accuracy if it was measured."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pixrt.files import atomic_write
from pixrt_export.training.log import read_metrics


def plot_run(folder: Path) -> Path:
    """Draw the metrics of a run to `folder/training.png`. Raises OutputError."""
    rows = read_metrics(folder)
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    accuracies = [(row["step"], row["edit_accuracy"]) for row in rows if "edit_accuracy" in row]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure((8, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="loss")
        if losses:
            steps, values = np.array(losses).T
            axes.set_yscale("log" if (values > 0).all() else "linear")
            axes.plot(steps, values, color="0.8", linewidth=0.5)
            axes.plot(*_smoothed(steps, values), color="tab:blue", label="loss")
        if accuracies:
            right = axes.twinx()
            right.set(ylabel="edit accuracy", ylim=(0, 1))
            right.plot(*np.array(accuracies).T, color="tab:orange", marker="o", markersize=3)
        with atomic_write(folder / "training.png") as file:
            figure.savefig(file, format="png", dpi=150)
    return folder / "training.png"


def _smoothed(steps: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means over a fiftieth of the run, at least one step."""
    width = max(1, len(values) // 50)
    kernel = np.ones(width) / width
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
