"""What a run leaves to look at: `metrics.jsonl`, TensorBoard events and the grids of samples.

The rows of `metrics.jsonl` are {"step", "loss", "learning_rate"}, and {"step", "edit_accuracy"} if it was measured.
"""

import json
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from pixrt.errors import OutputError
from pixrt.files import atomic_write, make_folder
from pixrt.reading import Malformed, parse_json
from pixrt_export.training.loop import Observer, Preview, StepReport


class RunLog:
    """An observer that writes into a run's folder and tells another observer too. A context: it closes its files."""

    def __init__(self, folder: Path, observer: Observer) -> None:
        make_folder(folder / "samples")
        self.folder, self.observer = folder, observer
        self.events: SummaryWriter | None = None

    def encoded(self, done: int, total: int) -> None:
        """Pass it on."""
        self.observer.encoded(done, total)

    def started(self, step: int, steps: int) -> None:
        """Forget what was logged after the checkpoint the run goes on from."""
        kept = [row for row in read_metrics(self.folder) if row["step"] <= step]
        with atomic_write(self.folder / "metrics.jsonl") as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in kept)
        self.events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)
        self.observer.started(step, steps)

    def stepped(self, report: StepReport) -> None:
        """Log loss, learning rate and where the time went."""
        seconds = {name: round(getattr(report, name), 4) for name in ("data_s", "passes_s", "optimizer_s")}
        self.metric(report.step, loss=report.loss, learning_rate=report.learning_rate, **seconds)
        self.observer.stepped(report)

    def sampled(self, step: int, preview: Preview) -> None:
        """Keep the grid, log what was measured."""
        with atomic_write(self.folder / "samples" / f"step-{step:08d}.png") as file:
            preview.picture.save(file, "PNG")
        if preview.metrics:
            self.metric(step, **preview.metrics)
        self.observer.sampled(step, preview)

    def saved(self, step: int, folder: Path) -> None:
        """Pass it on."""
        self.observer.saved(step, folder)

    def should_stop(self) -> bool:
        """Ask the other observer."""
        return self.observer.should_stop()

    def metric(self, step: int, **values: float) -> None:
        """Log some numbers of one step."""
        try:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
            for name, value in values.items():
                if self.events is not None:
                    self.events.add_scalar(name, value, step)
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.folder}: {error}", remedy="Free some space and start again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.events is not None:
            self.events.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Every whole row of a run's `metrics.jsonl`."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(parse_json(line))
        except Malformed:  # the last line of a run that was killed
            break
    return rows
