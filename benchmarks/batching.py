"""A batch of pictures against as many single edits, in turn: how many times the throughput, and whether results differ.

python benchmarks/batching.py [BUNDLE]
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from pixrt.editor.editor import Editor
from pixrt.editor.result import EditResult

SCENES = Path(__file__).parent.parent / "examples"
INSTRUCTION = "make the background blue"


def seconds(work: Callable[[list[Image.Image]], object], pictures: list[Image.Image]) -> float:
    start = time.perf_counter()
    work(pictures)
    return time.perf_counter() - start


def main(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or name.")] = "shapes",
    size: Annotated[int, typer.Option(help="Pictures in the batch.")] = 8,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the bundle's by default.")] = None,
    repeats: Annotated[int, typer.Option(help="Rounds of both sides, after one that warms up.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of both sides.")] = 2,
) -> None:
    scene = Image.open(SCENES / "scene.png").convert("RGB")
    pictures = [scene.rotate(90 * k).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for k in range(size)]
    seeds = list(range(size))
    together, alone = [], []
    with Editor(bundle, threads=threads, max_batch=size) as editor:

        def batch(given: list[Image.Image]) -> list[EditResult]:
            return editor.edit(given, INSTRUCTION, seed=seeds, steps=steps)

        def one_by_one(given: list[Image.Image]) -> list[EditResult]:
            return [
                editor.edit(picture, INSTRUCTION, seed=seed, steps=steps)
                for picture, seed in zip(given, seeds, strict=True)
            ]

        pairs = zip(batch(pictures), one_by_one(pictures), strict=True)  # the warm-up too
        differing = sum(not np.array_equal(np.asarray(one.image), np.asarray(other.image)) for one, other in pairs)
        for number in range(1, repeats + 1):  # every time new pictures, whose latents are not remembered
            together.append(
                seconds(batch, [picture.point(lambda v, by=number: min(255, v + by)) for picture in pictures])
            )
            alone.append(
                seconds(one_by_one, [picture.point(lambda v, by=number: max(0, v - by)) for picture in pictures])
            )
        backend = editor.backend
    ratios = sorted(a / b for a, b in zip(alone, together, strict=True))
    print(f"{size} pictures of 64 x 64, {threads} threads, {backend}: {differing} of {size} pictures differ")
    print(
        f"in one batch {statistics.median(together):.3f} s, one after another {statistics.median(alone):.3f} s:",
        end=" ",
    )
    print(f"{statistics.median(ratios):.2f} times the throughput ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    raise typer.Exit(1 if differing else 0)


if __name__ == "__main__":
    typer.run(main)
