"""Edits in tiles against edits of the whole picture: how close, whether seams show, time, and peak memory.

    python benchmarks/tiles.py

edits sheets of drawn scenes with the model `shapes`, each side in turn and in a process of its own, for peak memory is
a process's. Of the instructions used the right answer is known, pixel by pixel, so both sides are held against it too.
"""

import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from pixrt.editor.editor import Editor
from pixrt.maths.tiles import Tiling, make_tiling
from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import View
from pixrt_export.world.scene import random_scene_of

SIDE = 64  # of a scene, the model's own size
RIGHT: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "invert the colors": lambda pixels: 255 - pixels,
    "make it darker": lambda pixels: pixels // 2,
}


@dataclass(frozen=True)
class Made:
    """One edit: its pixels `[H, W, 3]`, seconds without opening the networks, peak memory and network rows."""

    pixels: NDArray[np.uint8]
    seconds: float
    peak_mib: float
    rows: int


def draw_sheet(across: int, down: int, seed: int) -> NDArray[np.uint8]:
    """Scenes that the model was not trained on, side by side; they do not begin where tiles do."""
    generator = np.random.default_rng(seed)
    rows = [
        [draw(View(random_scene_of("held-out", generator)), SIDE) for _ in range(across + 1)] for _ in range(down + 1)
    ]
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return sheet[20 : 20 + SIDE * down, 28 : 28 + SIDE * across]


def psnr(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Decibels, for pixels of 255."""
    return float(10 * np.log10(255**2 / np.mean((ours.astype(np.float64) - theirs) ** 2)))


def seams(difference: NDArray[Any], tiling: Tiling) -> tuple[float, float]:
    """The mean step between neighbouring pixels of `[H, W, ...]`, across borders of windows and everywhere else.

    Of the difference between a picture made in tiles and one that was not: edges that both have do not count.
    """
    across, elsewhere = [], []
    for axis, (firsts, window, side) in enumerate(
        zip((tiling.tops, tiling.lefts), tiling.window, tiling.size, strict=True)
    ):
        others = tuple(other for other in range(difference.ndim) if other != axis)
        steps = np.abs(np.diff(difference.astype(np.float64), axis=axis)).mean(others)
        borders = sorted(
            {first - 1 for first in firsts if first} | {f + window - 1 for f in firsts if f + window < side}
        )
        across.append(steps[borders])
        elsewhere.append(np.delete(steps, borders))
    return float(np.concatenate(across).mean()), float(np.concatenate(elsewhere).mean())


def edit(picture: NDArray[np.uint8], text: str, tile: int | None, steps: int, seed: int, threads: int) -> Made:
    """One edit in this process, after one step that opens the networks."""
    common: dict[str, Any] = {"resolution": max(picture.shape), "seed": seed}
    with Editor("shapes", backend="ort-cpu", threads=threads, tile=tile) as editor:
        editor.edit(picture, text, steps=1, **common)
        started = time.perf_counter()
        result = editor.edit(picture, text, steps=steps, **common)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Made(np.asarray(result.image), seconds, peak, result.network_rows)


def edit_alone(*arguments: Any) -> Made:
    """`edit` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(edit, *arguments).result()


def main(
    across: Annotated[int, typer.Option(help="Scenes side by side.")] = 5,
    down: Annotated[int, typer.Option(help="Scenes below each other.")] = 4,
    tile: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of an edit.")] = 10,
    sheets: Annotated[int, typer.Option(help="Sheets per instruction.")] = 2,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    output: Annotated[Path | None, typer.Option(help="A folder: sheets, in tiles and whole, side by side.")] = None,
) -> None:
    height, width = SIDE * down, SIDE * across
    with Editor("shapes", backend="null") as opened:
        scale = opened.manifest.latents.scale
    tiling = make_tiling((height // scale, width // scale), tile // scale).scaled(scale)
    print(
        f"{platform.machine()}, {threads} threads; {steps} steps of {width} x {height} pixels;"
        f" {tiling.count} tiles of {tile}"
    )
    print(f"{'':26}{'PSNR in dB of':>32}{'step of the difference':>26}")
    print(f"{'':26}{'both':>8}{'tiles':>12}{'whole':>12}{'at borders':>14}{'elsewhere':>12}")
    print(f"{'':26}{'':>8}{'to the right answer':>24}{'of 255':>26}")
    made: dict[str, list[Made]] = {"tiles": [], "whole": []}
    for text, right in RIGHT.items():
        for seed in range(sheets):
            picture = draw_sheet(across, down, seed)
            answer = right(picture)
            for name, side in (("tiles", tile), ("whole", None)):
                made[name].append(edit_alone(picture, text, side, steps, seed, threads))
            tiled, whole = made["tiles"][-1].pixels, made["whole"][-1].pixels
            at, elsewhere = seams(tiled.astype(np.int16) - whole, tiling)
            print(
                f"{f'{text}, sheet {seed}':26}{psnr(tiled, whole):8.1f}{psnr(tiled, answer):12.1f}"
                f"{psnr(whole, answer):12.1f}{at:14.2f}{elsewhere:12.2f}"
            )
            if output is not None:
                side_by_side = np.concatenate([picture, tiled, whole], axis=1)
                Image.fromarray(side_by_side).save(output / f"{text.replace(' ', '-')}-{seed}.png")
    for name, runs in made.items():
        seconds = [run.seconds for run in runs]
        print(
            f"{name}: {runs[0].rows} network rows, median {statistics.median(seconds):.2f} s (min {min(seconds):.2f},"
            f" max {max(seconds):.2f}), peak {max(run.peak_mib for run in runs):.0f} MiB"
        )


if __name__ == "__main__":
    typer.run(main)
