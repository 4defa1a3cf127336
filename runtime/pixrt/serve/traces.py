"""Traces: files that say which pictures were asked for, and when.

Three kinds are read: a JSON object per line; CSV with names in its first line; `Request(...)` lines, as the traces of
vLLM-Omni's benchmark (`Dit_Trace`) have them. Must not import numpy or Pillow.
"""

import ast
import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixrt.errors import OptionError
from pixrt.reading import parse_json, read_text

MOST_STEPS, MOST_SIDE = 1000, 8192
_REQUEST = "Request("

_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Traced:
    """A picture that was asked for. `at` is None if the trace does not say when, `patience` if it may take its time.

    Attributes:
        at: seconds since the first one.
        rows: network rows of each step.
        patience: seconds for which the client waits.
    """

    at: float | None
    width: int
    height: int
    rows: tuple[int, ...]
    patience: float | None


def read_trace(path: Path, side: int) -> list[Traced]:
    """All pictures of a trace, in the order of their arrival; a size that is not said is `side` squared.

    Raises OptionError, with the line, for what cannot be understood.
    """

    def refuse(problem: str) -> OptionError:
        return OptionError(f"{path}: the trace cannot be read: {problem}", remedy="Give a text file that is there")

    lines = read_text(path, _MOST_BYTES, refuse).splitlines()
    traced = [_traced(record, f"{path}:{number}", side) for number, record in _records(lines, path)]
    if not traced:
        raise OptionError(f"{path}: the trace has no request", remedy="Give one with a request in each line")
    timed = [each for each in traced if each.at is not None]
    if not timed:
        return traced
    if len(timed) < len(traced):
        raise OptionError(
            f"{path}: {len(traced) - len(timed)} of {len(traced)} requests have no arrival",
            remedy="Say `arrival` (seconds) for all, or for none",
        )
    first = min(each.at for each in timed if each.at is not None)
    moved = [Traced((each.at or 0.0) - first, each.width, each.height, each.rows, each.patience) for each in timed]
    return sorted(moved, key=lambda each: each.at or 0.0)


def _records(lines: list[str], path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each request's names and values, with its line."""
    filled = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not filled or filled[0][1].startswith(("{", _REQUEST)):
        for number, line in filled:
            yield number, _parsed(line, f"{path}:{number}")
        return
    (header, _), *rest = filled
    names = next(csv.reader([filled[0][1]]))
    if "steps" not in names and "num_inference_steps" not in names:
        raise OptionError(
            f"{path}:{header}: this is neither JSON, nor CSV with a column `steps`, nor Request(...)",
            remedy="Give one request per line, such as"
            ' {"arrival": 0.5, "size": "512x512", "steps": 20, "rows": 3, "slo_ms": 3000}',
        )
    for (number, _), row in zip(rest, csv.DictReader((line for _, line in rest), names), strict=True):
        yield number, {name: value for name, value in row.items() if name is not None and value not in (None, "")}


def _parsed(line: str, where: str) -> Mapping[str, Any]:
    try:
        if line.startswith("{"):
            return dict(parse_json(line, finite=False))
        call = ast.parse(line, mode="eval").body
        if isinstance(call, ast.Call) and line.startswith(_REQUEST):
            return {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise OptionError(
            f"{where}: this cannot be read: {line:.60}", remedy="Give a JSON object, or Request(...)"
        ) from error
    raise OptionError(f"{where}: this is no request: {line:.60}", remedy="Give all lines in one form")


def _traced(record: Mapping[str, Any], where: str, side: int) -> Traced:
    steps = _number(record, where, "steps", "num_inference_steps", low=1, high=MOST_STEPS)
    if steps is None:
        raise OptionError(f"{where}: the request has no steps", remedy="Say `steps` (or `num_inference_steps`)")
    at = _number(record, where, "arrival", "timestamp")
    if at is None and (milliseconds := _number(record, where, "arrival_ms")) is not None:
        at = milliseconds / 1000
    patience = _number(record, where, "slo_ms", "deadline_ms")
    width, height = _size(record.get("size"), where, side)
    return Traced(
        at=at,
        width=int(_number(record, where, "width", low=8, high=MOST_SIDE) or width),
        height=int(_number(record, where, "height", low=8, high=MOST_SIDE) or height),
        rows=(_rows(record, where),) * int(steps),
        patience=None if patience is None else patience / 1000,
    )


def _number(record: Mapping[str, Any], where: str, *names: str, low: float = 0.0, high: float = 1e12) -> float | None:
    """What a request says under the first of these names, if it says anything."""
    name = next((name for name in names if record.get(name) not in (None, "")), None)
    if name is None:
        return None
    try:
        value = float(record[name])
    except (TypeError, ValueError):
        value = math.nan
    if not low <= value <= high:
        raise OptionError(f"{where}: {name} is {record[name]!r:.60}", remedy=f"It must be from {low:g} to {high:g}")
    return value


def _rows(record: Mapping[str, Any], where: str) -> int:
    """Rows of a step: said, or as many as the scales ask for (see `pixrt.maths.guidance`), or an edit's three."""
    rows = _number(record, where, "rows", low=1, high=3)
    if rows is not None:
        return int(rows)
    text = _number(record, where, "guidance_scale", high=1000)
    image = _number(record, where, "image_guidance_scale", high=1000)
    if text is None and image is None:
        return 3
    text, image = 7.5 if text is None else text, 1.5 if image is None else image
    return (text != 0) + (image != text) + (image != 1)


def _size(size: Any, where: str, side: int) -> tuple[int, int]:
    if size in (None, "", "auto"):
        return side, side
    width, _, height = str(size).partition("x")
    if not (width.isdecimal() and height.isdecimal() and 8 <= min(int(width), int(height)) <= MOST_SIDE):
        raise OptionError(f"{where}: size is {size!r:.60}", remedy="It must be such as 512x512")
    return int(width), int(height)
