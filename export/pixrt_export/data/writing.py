"""Writing a training set as a folder of PNGs with `metadata.jsonl`, whole or not at all. Must not import PyTorch."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from pixrt.errors import OutputError
from pixrt.folders import atomic_folder
from pixrt_export.data import image_folder
from pixrt_export.data.pairs import PairSet


def write_pairs(
    pairs: PairSet,
    output: Path,
    *,
    size: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write every sample at [size, size] into a new folder that `open_pairs` reads, and `datasets` as an imagefolder.

    It is made beside the output and renamed when it is complete. Raises OutputError if the output exists or the
    file system refuses; PictureError if a sample cannot be loaded.
    """
    _require_new(output)
    with atomic_folder(output, overwrite=False) as folder:
        with (folder / image_folder.INDEX).open("w", encoding="utf-8") as index:
            for number in range(len(pairs)):
                index.write(json.dumps(_write_sample(pairs, number, folder, size), ensure_ascii=False) + "\n")
                on_progress(number + 1, len(pairs))
        _require_new(output)  # again: some time has passed


def _write_sample(pairs: PairSet, index: int, folder: Path, size: int) -> dict[str, str | None]:
    """Write one sample's pictures; its row, in the columns that `datasets` turns into pictures."""
    pair = pairs.load(index, size)
    source = None if pair.source is None else f"{index:06}-source.png"
    target = f"{index:06}-target.png"
    if pair.source is not None:
        Image.fromarray(pair.source).save(folder / f"{source}")
    Image.fromarray(pair.target).save(folder / target)
    return {"input_image_file_name": source, "edit_prompt": pair.instruction, "edited_image_file_name": target}


def _require_new(target: Path) -> None:
    if os.path.lexists(target):
        raise OutputError(f"{target} exists already", remedy="Choose another -o, or remove it first")
