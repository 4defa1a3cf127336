"""What a grid of sample edits shows while an editing model is trained."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixrt_export.data.pairs import PairSet
from pixrt_export.training.loop import Preview
from pixrt_export.training.plan import DataOptions

Edit = Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.uint8]]
COLUMNS = 8


def edit_preview(edit: Edit, pairs: PairSet, data: DataOptions, scenes: int) -> Callable[[], Preview]:
    """A function that edits some pictures and lays them out: source, result, right answer.

    The pictures are held-out ones if the data is a world, and then judged, else the first ones of the set.
    """
    world = data.held_out(scenes)
    shown = world or pairs
    samples = [shown.load(index, data.size) for index in range(min(scenes, len(shown)))]
    samples = [sample for sample in samples if sample.source is not None]
    sources = np.stack([sample.source for sample in samples if sample.source is not None])
    targets = np.stack([sample.target for sample in samples])
    texts = [sample.instruction for sample in samples]

    def preview() -> Preview:
        results = np.concatenate([edit(sources[k : k + 16], texts[k : k + 16]) for k in range(0, len(texts), 16)])
        grid = _grid(np.concatenate([sources, results, targets], axis=1))
        if world is None:
            return Preview(grid)
        right = [world.is_right(k, results[k]) for k in range(len(texts))]
        return Preview(grid, {"edit_accuracy": float(np.mean(right))})

    return preview


def _grid(tiles: NDArray[np.uint8]) -> Image.Image:
    """Tiles uint8 [N, H, W, 3] in rows of COLUMNS, the last row filled with white."""
    missing = -len(tiles) % COLUMNS
    filled = np.concatenate([tiles, np.full((missing, *tiles.shape[1:]), 255, np.uint8)])
    rows = filled.reshape(-1, COLUMNS, *tiles.shape[1:])  # [rows, columns, H, W, 3]
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))
