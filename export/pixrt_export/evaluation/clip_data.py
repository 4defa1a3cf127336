"""Captioned edits on disk: a training set that has captions, or a plain table. Must not import PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pixrt.errors import DataError, OptionError
from pixrt.reading import Malformed, parse_json, read_text
from pixrt_export.data.folders import open_pairs
from pixrt_export.evaluation.clip import CaptionedEdit

_MOST_BYTES = 256 << 20
COLUMNS = ("image", "instruction", "input_caption", "output_caption")


def read_captioned_edits(path: Path) -> list[CaptionedEdit]:
    """Read a `.jsonl` file with the columns COLUMNS, `image` relative to it; or a training set's folder.

    Of a training set, the samples with a source and both captions; InstructPix2Pix's own has them. Raises DataError.
    """
    edits = _read_table(path) if path.suffix == ".jsonl" else _read_folder(path)
    if not edits:
        raise DataError(
            f"{path} holds no picture with a caption before and after the edit",
            remedy=f"Give a folder of the original's layout, or a .jsonl file with {', '.join(COLUMNS)}",
        )
    return edits


def draw_samples(edits: Sequence[CaptionedEdit], count: int | None, *, seed: int = 0) -> list[CaptionedEdit]:
    """`count` of them in random order, or all. Raises OptionError if there are fewer."""
    if count is not None and not 1 <= count <= len(edits):
        raise OptionError(f"{count} samples of {len(edits)}", remedy=f"Ask for 1 to {len(edits)}")
    order = np.random.default_rng(seed).permutation(len(edits))
    return [edits[i] for i in order[:count]]


def _read_folder(folder: Path) -> list[CaptionedEdit]:
    pairs = open_pairs(folder)
    edits = []
    for index in range(len(pairs)):
        captions = pairs.captions(index)
        if captions is None:
            continue
        source, _ = pairs.pictures(index)
        if source is not None:
            edits.append(CaptionedEdit(source, pairs.instruction(index), captions.source, captions.target))
    return edits


def _read_table(path: Path) -> list[CaptionedEdit]:
    text = read_text(path, _MOST_BYTES, lambda problem: DataError(problem, remedy="Check the path"))
    lines = text.splitlines()
    return [_edit(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _edit(path: Path, number: int, line: str) -> CaptionedEdit:
    try:
        cells = parse_json(line)
    except Malformed as error:
        raise DataError(f"line {number} of {path} is not JSON: {error}", remedy="One JSON object a line") from error
    if not isinstance(cells, dict) or not all(isinstance(cells.get(column), str) for column in COLUMNS):
        raise DataError(
            f"line {number} of {path} does not have the texts {', '.join(COLUMNS)}", remedy="Write all of them"
        )
    image, instruction, before, after = (cells[column] for column in COLUMNS)
    return CaptionedEdit(path.parent / image, instruction, before, after)
