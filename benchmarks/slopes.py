"""What an edit costs against its work: steps, pictures together, pixels, and pictures one after the other.

    python benchmarks/slopes.py BUNDLE [--backend ort-cpu] [--scale 1] [--repeat 3] [--plots FOLDER] [--json FILE]

- steps 1 to 100, one picture of the bundle's own size: milliseconds are fitted by a line;
- pictures together 1 to 8, of four steps: fitted by a line;
- sides 64 to 768 pixels, of two steps: the exponent of the UNet's milliseconds over its FLOPs, counted from the graph,
  so attention's own square is no surprise; sides that the bundle does not take are left out;
- pictures 1 to 10,000, four steps on the backend `null`, whose networks take no time: the processor's time that pixrt
  itself adds for each, fitted by the exponent, and how much the resident memory grows; each count once.

`--scale 0.01` takes so many fewer steps and pictures, to try it. A point is the median of `--repeat` rounds over all
points. It is a surprise, marked and ending with 1, where a point is more than `--tolerance` above its fit, where
pictures together take longer than one after the other, or where an exponent is more than 1 and the tolerance. With
`--plots` (matplotlib) a picture of every axis is drawn.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from peer_sides import Work
from peers import environment, unet_flops
from pixrt import Editor
from pixrt.apps.bench import peak_memory_bytes, picture, timed_edit
from pixrt.bundles.store import open_bundle
from pixrt.editor.events import Failed, Made
from pixrt.errors import PixrtError
from pixrt.options.tasks import EditOptions
from pixrt.tasks.jobs import Job

STEPS = (1, 2, 5, 10, 20, 50, 100)
TOGETHER = (1, 2, 3, 4, 6, 8)
SIDES = (64, 128, 192, 256, 384, 512, 640, 768)
PICTURES = (1, 10, 100, 1000, 10_000)


@dataclasses.dataclass(slots=True)
class Axis:
    """Milliseconds over work; `at` is what a person says of a point, `work` what is fitted over."""

    name: str
    at: list[float]
    work: list[float]
    is_line: bool
    ms: list[list[float]] = dataclasses.field(default_factory=list)
    slope: float = 0.0
    start_ms: float = 0.0
    surprises: list[str] = dataclasses.field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        """Of every point."""
        return [statistics.median(each) for each in self.ms]

    def fit(self, tolerance: float) -> None:
        """A line, or an exponent; and what is above it."""
        work, ms = np.array(self.work), np.array(self.medians)
        if len(work) < 2:
            return
        if self.is_line:
            # Relative errors count, so that the long edits do not hide the short ones.
            self.slope, self.start_ms = map(float, np.polyfit(work, ms, 1, w=1 / ms))
            expected = self.slope * work + self.start_ms
        else:
            self.slope, start = map(float, np.polyfit(np.log(work), np.log(ms), 1))
            self.start_ms = float(np.exp(start))
            expected = self.start_ms * work**self.slope
            if self.slope > 1 + tolerance:
                self.surprises.append(f"grows with the power {self.slope:.2f} of its work")
        for at, measured, fitted in zip(self.at, ms, expected, strict=True):
            if measured > (1 + tolerance) * fitted:
                self.surprises.append(f"{at:g}: {measured:.1f} ms, {measured / fitted:.2f} times its fit")


def scaled(counts: Sequence[int], scale: float) -> list[int]:
    """Fewer, each once, and 1 at least."""
    return sorted({max(1, round(count * scale)) for count in counts})


def each_round(axis: Axis, repeat: int, run: Callable[[float], float]) -> None:
    """Points in turn, after a round that does not count."""
    axis.ms = [[] for _ in axis.at]
    for number in range(repeat + 1):
        for at, kept in zip(axis.at, axis.ms, strict=True):
            took = run(at)
            if number:
                kept.append(took)


def of_steps(editor: Editor, size: int, counts: Sequence[int], repeat: int) -> Axis:
    axis = Axis("steps", [*counts], [*counts], is_line=True)
    each_round(
        axis,
        repeat,
        lambda at: timed_edit(editor, EditOptions(seed=0, steps=int(at), resolution=size), size, 0).ms["edit"],
    )
    return axis


def of_pictures_together(editor: Editor, size: int, repeat: int, tolerance: float) -> Axis:
    axis = Axis("pictures together", [*TOGETHER], [*TOGETHER], is_line=True)
    options = EditOptions(seed=0, steps=4, resolution=size)
    each_round(axis, repeat, lambda at: timed_edit(editor, options, size, 0, together=int(at)).ms["edit"])
    alone, *others = zip(axis.at, axis.medians, strict=True)
    for at, ms in others:
        if ms > (1 + tolerance) * at * alone[1]:
            axis.surprises.append(f"{at:g} together take {ms:.1f} ms, longer than one after the other")
    return axis


def of_sides(editor: Editor, bundle: str, work: Work, repeat: int) -> Axis:
    taken = []
    for side in SIDES:
        options = EditOptions(seed=0, steps=2, resolution=side)
        try:
            editor.check([Job(options=options, text="make it winter", image=picture(side, 0))])
        except PixrtError as error:
            print(f"{side} px is left out: {error.problem}")
            continue
        taken.append(side)
    flops = [float(unet_flops(bundle, dataclasses.replace(work, size=side))) for side in taken]
    axis = Axis("side in pixels", [float(side) for side in taken], flops, is_line=False)

    def run(at: float) -> float:
        side = int(at)
        return timed_edit(editor, EditOptions(seed=0, steps=2, resolution=side), side, 0).ms["denoise"]

    each_round(axis, repeat, run)
    return axis


def of_pictures(bundle: str, size: int, counts: Sequence[int]) -> Axis:
    axis = Axis("pictures", [*counts], [*counts], is_line=False)
    options, image = EditOptions(seed=0, steps=4, resolution=size), picture(size, 0)
    memory: dict[float, int] = {}
    with Editor(bundle, backend="null", verify=False) as editor:

        def run(at: float) -> float:
            started = time.process_time()
            jobs = [Job(options=options, text="make it winter", image=image)] * int(at)
            with editor.events(editor.check(jobs), steps=False) as events:
                for event in events:
                    if isinstance(event, Failed):
                        raise event.error
                    assert isinstance(event, Made)
            took = 1000 * (time.process_time() - started)
            memory.setdefault(at, peak_memory_bytes() or 0)  # of the first round: it only ever grows
            return took

        run(1)
        axis.ms = [[run(at)] for at in axis.at]  # once: so many are an average already
    # What is done once for a call is most of one picture's time.
    axis.at, axis.work, axis.ms = axis.at[1:] or axis.at, axis.work[1:] or axis.work, axis.ms[1:] or axis.ms
    few, many = min(memory), max(memory)
    if many > few:
        grown = (memory[many] - memory[few]) / (many - few)
        print(f"{many:g} pictures: {grown / 1024:.2f} KiB of peak memory for each")
    return axis


def lines(axis: Axis) -> Iterator[str]:
    what = f"{axis.slope:.3f} ms for each, {axis.start_ms:.1f} ms beside" if axis.is_line else f"power {axis.slope:.3f}"
    yield f"{axis.name}: {what}"
    for at, values in zip(axis.at, axis.ms, strict=True):
        yield f"  {at:8g} {statistics.median(values):12.1f} ms ({min(values):.1f} to {max(values):.1f})"
    yield from (f"  surprise: {surprise}" for surprise in axis.surprises)


def draw(axis: Axis, folder: Path) -> None:
    """Points and the fit, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure((6, 4), layout="constrained")
    label = axis.name if axis.work == axis.at else "FLOPs of a step of the UNet"
    plot = figure.add_subplot(title=axis.name, xlabel=label, ylabel="ms", xscale="log", yscale="log")
    work = np.array(axis.work)
    fitted = axis.slope * work + axis.start_ms if axis.is_line else axis.start_ms * work**axis.slope
    plot.plot(work, axis.medians, "o", label="median")
    plot.plot(work, fitted, "-", label="fit")
    plot.legend()
    figure.savefig(folder / f"{axis.name.replace(' ', '-')}.svg")


def main(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or name.")],
    backend: Annotated[str, typer.Option()] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    scale: Annotated[float, typer.Option(min=0.0001, max=1, help="Of steps and pictures.")] = 1.0,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 3,
    tolerance: Annotated[float, typer.Option(min=0)] = 0.2,
    axis: Annotated[list[str] | None, typer.Option(help="steps, together, sides or pictures; may be repeated.")] = None,
    plots: Annotated[Path | None, typer.Option(help="A folder for pictures of all axes.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    manifest = open_bundle(bundle).manifest
    size, wanted, axes = manifest.native_resolution, axis or ["steps", "together", "sides", "pictures"], list[Axis]()
    work = Work(Path(), Path(), size, 2, manifest.defaults.scheduler, 1, 1, threads, rows=1)
    if "pictures" in wanted:  # first: only then is the peak of memory its own
        axes.append(of_pictures(bundle, size, scaled(PICTURES, scale)))
    with Editor(bundle, backend=backend, threads=threads, max_batch=max(TOGETHER)) as editor:
        if "steps" in wanted:
            axes.append(of_steps(editor, size, scaled(STEPS, scale), repeat))
        if "together" in wanted:
            axes.append(of_pictures_together(editor, size, repeat, tolerance))
        if "sides" in wanted:
            axes.append(of_sides(editor, bundle, work, repeat))
    print(f"{manifest.name}, {size} px, {backend}, {threads} threads; medians of {repeat}, least and most")
    for each in axes:
        each.fit(tolerance)
        print("\n".join(lines(each)))
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            draw(each, plots)
    if json_file is not None:
        about = {"model": manifest.name, "size": size, "backend": backend, "threads": threads, "scale": scale}
        facts = {**about, "environment": environment(), "axes": [dataclasses.asdict(each) for each in axes]}
        json_file.write_text(json.dumps(facts, indent=1) + "\n")
    sys.exit(any(each.surprises for each in axes))


if __name__ == "__main__":
    typer.run(main)
