"""Edits that arrive at random steps on one pool: is each what it is alone, and what does sharing save?

    python benchmarks/joining.py [BUNDLE]

Edits of mixed solvers, step counts (4 to 50), scales, windows and masks join a pool whenever they arrive, and leave
when they have ended. Every picture must equal its single edit byte for byte; it ends with 1 if one does not. The
network's calls and rows are printed beside those of batches in which only pictures of one solver and number of steps
can be together (and masks only with masks), which is what a batch with one clock allows.
"""

import random
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from pixrt import EditOptions, Editor, Failed, Job, Made
from pixrt.core.rows import Rows
from pixrt.core.track import make_steps
from pixrt.options.choices import SCHEDULERS
from pixrt.tasks.requests import Request

SCENES = Path(__file__).parent.parent / "examples"
TEXTS = ("make the background blue", "invert the colors", "make it darker", "turn the circle into a star")
SCALES = ((2.0, 1.2), (5.0, 1.5), (1.5, 1.0), (1.0, 1.0), (3.0, 3.0))
WINDOWS = ((0.0, 1.0), (0.0, 0.6), (0.2, 0.8))


def draw_jobs(count: int, seed: int) -> list[Job]:
    """Edits of the example scenes, a third of them in masks."""
    draw, jobs = random.Random(seed), []
    scenes = [Image.open(SCENES / name).convert("RGB") for name in ("scene.png", "scene-green.png")]
    for number in range(count):
        mask = None
        if draw.random() < 1 / 3:
            mask = np.zeros(scenes[0].size[::-1], bool)
            mask[:, draw.randrange(0, 32) :] = True
        text_scale, image_scale = draw.choice(SCALES)
        options = EditOptions(
            steps=draw.randint(4, 50),
            scheduler=draw.choice(SCHEDULERS),  # type: ignore[arg-type]
            guidance_scale=text_scale,
            image_guidance_scale=image_scale,
            guidance_interval=draw.choice(WINDOWS),
            seed=number,
        )
        picture = draw.choice(scenes).rotate(90 * draw.randrange(4))
        jobs.append(Job(options=options, image=picture, text=draw.choice(TEXTS), mask=mask))
    return jobs


def make(editor: Editor, requests: list[Request], arrivals: list[int]) -> tuple[dict[int, Any], list[int]]:
    """Pictures by place, and the rows of every network call. `arrivals` are numbers of calls, one for each request."""
    calls: list[int] = []
    original = Rows.run

    def counting(self: Rows, rows: int) -> None:
        calls.append(rows)
        original(self, rows)

    Rows.run = counting  # type: ignore[method-assign]
    made: dict[int, Any] = {}
    try:
        waiting = sorted(zip(arrivals, requests, strict=True), key=lambda pair: (pair[0], pair[1].index))
        with editor.events([]) as run:
            while waiting or len(made) < len(requests):
                while waiting and (waiting[0][0] <= len(calls) or len(made) + len(waiting) == len(requests)):
                    run.add(waiting.pop(0)[1])
                for event in run:
                    if isinstance(event, Failed):
                        raise event.error
                    if isinstance(event, Made):
                        made[event.index] = np.asarray(event.result.image)
                    if waiting and waiting[0][0] <= len(calls):
                        break
    finally:
        Rows.run = original  # type: ignore[method-assign]
    return made, calls


def batched(requests: list[Request], scheduler: dict[str, Any], slots: int) -> tuple[int, int]:
    """Calls and rows of batches with one clock: every picture of one runs the branches that any of them runs."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for request in requests:
        options = request.options
        key = options.scheduler, options.steps, request.job.mask is None
        groups[key].append(make_steps(options, scheduler))
    calls = rows = 0
    for group in groups.values():
        for start in range(0, len(group), slots):
            batch = group[start : start + slots]
            calls += len(batch[0])
            for at in range(len(batch[0])):
                branches = {branch for steps in batch for branch in steps.branches[at]}
                rows += len(branches) * len(batch)
    return calls, rows


def main(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or name.")] = "shapes",
    count: Annotated[int, typer.Option(help="Edits.")] = 64,
    slots: Annotated[int, typer.Option(help="Slots of the pool.")] = 8,
    seed: Annotated[int, typer.Option(help="Of what is asked for, and when.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    draw = random.Random(seed + 1)
    with Editor(bundle, backend="ort-cpu", threads=threads, max_batch=slots) as editor:
        requests = editor.check(draw_jobs(count, seed))
        total = sum(len(make_steps(request.options, editor.manifest.scheduler)) for request in requests)
        arrivals = [draw.randrange(total // slots) for _ in requests]
        together, calls = make(editor, requests, arrivals)
        singles = {result.index: np.asarray(result.image) for each in requests for result in editor.run([each])}
        of_batches = batched(requests, editor.manifest.scheduler, slots)
    differing = sum(not np.array_equal(together[index], picture) for index, picture in singles.items())
    print(f"{count} edits on a pool of {slots} slots: {count - differing} of {count} equal their single edits")
    print(f"one pool:          {len(calls):6} network calls, {sum(calls):6} rows, {sum(calls) / len(calls):.1f} a call")
    print(f"batch by batch:    {of_batches[0]:6} network calls, {of_batches[1]:6} rows")
    print(f"one by one:        {total:6} network calls, {sum(calls):6} rows")
    raise typer.Exit(1 if differing else 0)


if __name__ == "__main__":
    typer.run(main)
