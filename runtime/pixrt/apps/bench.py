"""How long an edit takes on this machine, stage by stage: the first of a process, then warm ones.

Where the time goes is `StageTimes`; what stands outside of an edit's stages (checking, single steps, writing the file)
is timed here. Must not import a backend.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixrt.editor.editor import Editor
from pixrt.editor.events import Failed, Made, Stepped
from pixrt.editor.result import EditResult
from pixrt.options.tasks import EditOptions
from pixrt.tasks.jobs import Job

STAGES = {
    "check": "text tokenised, header read",
    "load": "networks opened",
    "prepare": "picture decoded and scaled",
    "text": "text encoder",
    "encode": "VAE encoder",
    "step": "a step",
    "denoise": "all steps",
    "decode": "VAE decoder",
    "finish": "result scaled",
    "save": "PNG encoded",
    "edit": "whole edit",
}


@dataclass(frozen=True, slots=True)
class Spread:
    """What a figure was over `count` repetitions: percentiles and extremes."""

    p50: float
    p90: float
    p99: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of one value at least; between two values percentiles are interpolated."""
        p50, p90, p99 = map(float, np.percentile(values, (50, 90, 99)))
        return cls(p50, p90, p99, min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Timed:
    """One edit: milliseconds by the names of `STAGES`, those of every step after the first, and its result."""

    ms: dict[str, float]
    steps_ms: tuple[float, ...]
    result: EditResult


@dataclass(frozen=True, slots=True)
class Timings:
    """The first edit, which opens the networks, and those after the warm-up."""

    first: Timed
    edits: tuple[Timed, ...]

    @property
    def stages(self) -> dict[str, Spread]:
        """Every stage that took any time; `step` is missing where edits have one step only."""
        listed = {name: [edit.ms[name] for edit in self.edits] for name in STAGES if name != "step"}
        listed["step"] = [each for edit in self.edits for each in edit.steps_ms]
        return {name: Spread.of(listed[name]) for name in STAGES if any(listed[name])}

    @property
    def per_step(self) -> Spread:
        """Milliseconds of the loop by its number of steps, joining and noise included."""
        return Spread.of([edit.ms["denoise"] / (len(edit.steps_ms) + 1) for edit in self.edits])


def measure(
    editor: Editor,
    options: EditOptions,
    size: int,
    *,
    repeats: int,
    warmups: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Timings:
    """Edit one picture after the other, the first and `warmups` more before `repeats` that count.

    Each has a picture of `size` x `size` pixels and an instruction of its own, so that nothing but the empty prompt is
    remembered from the one before. Raises OptionError, BackendError.
    """
    timed = []
    total = 1 + warmups + repeats
    for number in range(total):
        timed.append(timed_edit(editor, options, size, number))
        on_progress(number + 1, total)
    return Timings(timed[0], tuple(timed[1 + warmups :]))


def picture(size: int, number: int) -> bytes:
    """A JPEG, quality 95, of soft colours and some grain: about as long a file as a photograph; one for each number."""
    drawn = np.random.default_rng(number)
    soft = Image.fromarray(drawn.integers(0, 256, (8, 8, 3), np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    grain = drawn.normal(0, 4, (size, size, 3))
    file = BytesIO()
    Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def peak_memory_bytes() -> int | None:
    """The most of this process that was resident, as the system counts it (VmHWM); None where /proc does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None


def timed_edit(editor: Editor, options: EditOptions, size: int, number: int, *, together: int = 1) -> Timed:
    """The edit of picture `number`; with `together` of as many pictures at once, and its result is that of the first.

    Steps are those that advanced all of them. Raises OptionError, BackendError.
    """
    numbers = range(number, number + together)
    images = {each: picture(size, each) for each in numbers}
    started = time.perf_counter()
    requests = editor.check([Job(options=options, text=f"make it winter {n}", image=images[n]) for n in numbers])
    checked = time.perf_counter()
    made: dict[int, EditResult] = {}
    rounds: list[tuple[int, float]] = []  # of steps: how many pictures advanced, and when it ended
    seen: set[int] = set()
    with editor.events(requests) as run:
        for event in run:
            match event:
                case Stepped():
                    if event.index in seen or not seen:
                        seen.clear()
                        rounds.append((0, 0.0))
                    seen.add(event.index)
                    rounds[-1] = (len(seen), time.perf_counter())
                case Made():
                    seen.clear()
                    made[event.index] = event.result
                case Failed():
                    raise event.error
    finished = time.perf_counter()
    made[0].to_bytes("png")
    ended = time.perf_counter()
    stages = {name.removesuffix("_ms"): ms for name, ms in dataclasses.asdict(made[0].times).items()}
    own = {"check": checked - started, "save": ended - finished, "edit": ended - started}
    return Timed(
        {**stages, **{name: 1000 * s for name, s in own.items()}}, tuple(_between_ms(rounds, together)), made[0]
    )


def _between_ms(rounds: list[tuple[int, float]], together: int) -> Iterator[float]:
    """From one end to the next: the first step is not told apart from what was before it."""
    for (before, began), (pictures, ended) in pairwise(rounds):
        if before == pictures == together:
            yield 1000 * (ended - began)


def facts(timings: Timings) -> dict[str, Any]:
    """As JSON: the percentiles, and the steps of all edits one after the other."""
    return {
        "stages_ms": {name: dataclasses.asdict(spread) for name, spread in timings.stages.items()},
        "first_ms": timings.first.ms,
        "steps_ms": [list(edit.steps_ms) for edit in timings.edits],
    }
