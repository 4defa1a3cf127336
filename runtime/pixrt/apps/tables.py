"""Rows of tables, as people save them: lines of JSON, and CSV as spreadsheets write it. Must not import a backend.

A spreadsheet writes commas, semicolons or tabs, a byte order mark, UTF-8 or UTF-16, blank rows and columns, and headers
in any case and with spaces.
"""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from pixrt.errors import DataError
from pixrt.reading import Malformed, open_regular, parse_json, shown

TABLES = (".jsonl", ".csv", ".tsv")
REQUIRED = "image"
_DELIMITERS = (",", ";", "\t")
_HINT = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # a first line for spreadsheets only
_MOST_BYTES, _MOST_COLUMNS = 256 << 20, 1000
_NO_CSV = "Save it again, as CSV in UTF-8"

Row = Mapping[str, Any]


def read_rows(table: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a table with their numbers in it; what is blank or null is not in a row. Raises DataError."""
    return _json_rows(table) if table.suffix.lower() == ".jsonl" else _csv_rows(table)


def _json_rows(table: Path) -> Iterator[tuple[int, Row]]:
    with _opened(table) as file:
        for number, line in enumerate(_lines(file, table), 1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except Malformed as error:
                raise DataError(f"row {number} of {table}: {error}", remedy="One object a line") from error
            if not isinstance(row, dict):
                raise DataError(f"row {number} of {table} is not a JSON object", remedy="One object a line")
            yield number, {name: value for name, value in row.items() if value is not None}


def _csv_rows(table: Path) -> Iterator[tuple[int, Row]]:
    delimiter = _delimiter(table)
    names: list[str] | None = None
    for number, cells in _records(table, delimiter):
        if _is_blank(cells) or (number == 1 and _HINT.fullmatch(delimiter.join(cells))):
            continue
        if names is None:
            names = _names(cells)
            _require_once(names, table)
            continue
        given = {name: cell for name, cell in zip(names, cells, strict=False) if cell.strip()}
        surplus = [cell for cell in cells[len(names) :] if cell.strip()]
        if len(cells) < len(names) or surplus or "" in given:
            raise DataError(f"row {number} of {table} has not as many values as columns", remedy="Mend it")
        yield number, {name: _with_point(cell) if delimiter != "," else cell for name, cell in given.items()}


def _delimiter(table: Path) -> str:
    """What stands between the columns: that with which a header has the column that is required. Raises DataError."""
    found: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        for number, cells in _records(table, delimiter):
            hint = _HINT.fullmatch(delimiter.join(cells)) if number == 1 else None
            if hint is None and not _is_blank(cells):
                found[delimiter] = _names(cells)
                break
    for delimiter, names in found.items():
        if REQUIRED in names:
            return delimiter
    if not found:
        raise DataError(f"{table} has no header", remedy=f"Give columns their names, {REQUIRED} among them")
    most = max(map(len, found.values()))
    columns = ", ".join(repr(name) for names in found.values() if len(names) == most for name in names)
    raise DataError(
        f"{table} has no column {REQUIRED}: found were {columns:.300}",
        remedy="Put commas, semicolons or tabs between the columns, and give them their names in the first row",
    )


def _records(table: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV, blank ones too, with their numbers. Raises DataError."""
    with _opened(table) as file:
        try:
            yield from enumerate(csv.reader(file, delimiter=delimiter, strict=True), 1)
        except (csv.Error, UnicodeError) as error:
            raise DataError(f"{table} is not CSV in UTF-8: {error}", remedy=_NO_CSV) from error


def _opened(table: Path) -> TextIO:
    file = open_regular(table, _refuse)
    size = os.fstat(file.fileno()).st_size
    if size > _MOST_BYTES:
        file.close()
        raise _refuse(f"{shown(table)} has {size} bytes, more than {_MOST_BYTES}")
    encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    file.seek(0)
    return io.TextIOWrapper(file, encoding=encoding, newline="")


def _refuse(problem: str) -> DataError:
    return DataError(problem, remedy="Give a table that is a file, in several if it is too large")


def _lines(file: TextIO, table: Path) -> Iterator[str]:
    try:
        yield from file
    except UnicodeError as error:
        raise DataError(f"{table} is not in UTF-8: {error}", remedy="Save it again") from error


def _is_blank(cells: list[str]) -> bool:
    return not "".join(cells).strip(f"{''.join(_DELIMITERS)} \r\n")


def _names(cells: list[str]) -> list[str]:
    return [re.sub(r"[\s\-]+", "_", cell.strip().lower()) for cell in cells]


def _require_once(names: list[str], table: Path) -> None:
    if len(names) > _MOST_COLUMNS:
        problem = f"{table} has {len(names)} columns, more than {_MOST_COLUMNS}"
        raise DataError(problem, remedy="Remove what is no option")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{table} has two columns {twice!r:.60}", remedy="Remove one of them")


def _with_point(cell: str) -> str:
    """A number as it is written where semicolons stand between columns: 7,5 is 7.5."""
    return re.sub(r"^(\s*[+-]?\d+),(\d+\s*)$", r"\1.\2", cell)
