"""A folder with `metadata.jsonl` or `metadata.csv`, as the `imagefolder` loader of Hugging Face `datasets` reads it.

That loader takes the pictures' paths from the columns `file_name` and `NAME_file_name`; InstructPix2Pix sets also name
them without the suffix. Must not import PyTorch.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pixrt.errors import DataError
from pixrt.reading import Malformed, parse_json, read_lines, read_text
from pixrt_export.data.options import ANY, SetOptions
from pixrt_export.data.rows import BadRow, Row, captions_of, malformed, path_fault, text_fault

INDEX = "metadata.jsonl"
CSV_INDEX = "metadata.csv"
LONGEST_LINE = 1 << 20
_MOST_CSV_BYTES = 1 << 30
# Names of one thing, the first that a row has is taken. A `text` is what the loader's documentation calls a caption.
SOURCE = ("input_image", "input_image_file_name", "original_image", "original_image_file_name")
TARGET = ("edited_image", "edited_image_file_name")
TEXT = ("edit_prompt", "text")


def read_image_folder(folder: Path, options: SetOptions = ANY) -> Iterator[Row | BadRow]:
    """Every line as a sample; one without a source is of text-to-image. Raises DataError."""
    path = folder / INDEX

    def refuse(problem: str) -> DataError:
        return DataError(problem, remedy="Check its permissions, and that it has one object a line")

    for number, line in enumerate(read_lines(path, LONGEST_LINE, refuse), 1):
        if line.strip():
            yield _row(number, line, options)


def read_image_table(folder: Path, options: SetOptions = ANY) -> Iterator[Row | BadRow]:
    """The same out of a table with a line of column names; an empty cell is none. Raises DataError."""
    path = folder / CSV_INDEX

    def refuse(problem: str) -> DataError:
        return DataError(problem, remedy="Save the table again as CSV in UTF-8, with column names in its first line")

    table = csv.DictReader(io.StringIO(read_text(path, _MOST_CSV_BYTES, refuse), newline=""), strict=True)
    try:
        for cells in table:
            if None in cells or None in cells.values():
                yield BadRow(table.line_num, "has more or fewer cells than there are columns")
            else:
                yield _sample(table.line_num, {name: cell for name, cell in cells.items() if cell}, options)
    except csv.Error as error:
        raise refuse(f"{path} line {table.line_num}: {error}") from error


def _row(number: int, line: bytes, options: SetOptions) -> Row | BadRow:
    try:
        cells = parse_json(line)
    except Malformed as error:
        return BadRow(number, malformed(error))
    if not isinstance(cells, dict):
        return BadRow(number, "is not an object")
    return _sample(number, cells, options)


def _sample(number: int, cells: Mapping[str, Any], options: SetOptions) -> Row | BadRow:
    said = (options.text_column, TEXT), (options.source_column, SOURCE), (options.target_column, TARGET)
    names = [(given,) if given else usual for given, usual in said]
    text_column, source_column, target_column = (_first(cells, each) for each in names)
    # The bare `file_name` is the picture that no other column is.
    if cells.get("file_name") is not None and target_column != "file_name":
        if target_column is None and not options.target_column:
            target_column = "file_name"
        elif source_column is None and not options.source_column:
            source_column = "file_name"
    if text_column is None:
        return BadRow(number, f"has no {names[0][0]}")
    if target_column is None:
        return BadRow(number, f"has no {names[2][0]}")
    if source_column is None and options.source_column:
        return BadRow(number, f"has no {options.source_column}")
    for column, fault in (
        (text_column, text_fault(cells[text_column])),
        (target_column, path_fault(cells[target_column])),
        (source_column, path_fault(cells[source_column]) if source_column else None),
    ):
        if fault is not None:
            return BadRow(number, f"{column} {fault}")
    source = cells[source_column] if source_column else None
    captions = captions_of(cells.get("original_prompt"), cells.get("edited_prompt"))
    return Row(number, cells[text_column], source, cells[target_column], captions)


def _first(cells: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if cells.get(name) is not None), None)
