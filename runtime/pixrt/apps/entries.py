"""What a gallery is made of: the pictures of folders, patterns and tables, one entry each. Reads no pixels.

Must not import a backend.
"""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pixrt.apps.tables import TABLES, read_rows
from pixrt.errors import DataError, PixrtError
from pixrt.options.fields import option_fields, rule_of
from pixrt.options.parsing import parse_all
from pixrt.options.tasks import EditOptions
from pixrt.pictures.formats import OTHER_SUFFIXES, READABLE_SUFFIXES, readable_suffixes, writable_name

_LONGEST_NAME = 255 - len(".png")  # of the file systems in use, in bytes
_OWN = ("image", "instruction", "mask", "output")
_PARAMETERS = option_fields(EditOptions)


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture to be edited.

    Attributes:
        name: what it is called in reports: its path as it was given.
        target: where the result goes, relative to the output folder.
        options: the gallery's, with the row's own in their place.
    """

    name: str
    path: Path
    mask: Path | None
    target: Path
    instruction: str
    options: EditOptions


def read_entries(
    sources: Sequence[str],
    instruction: str | None,
    parameters: Mapping[str, Any],
    output: Path,
    *,
    on_passed: Callable[[Path], None] = lambda path: None,
) -> Iterator[Entry]:
    """The entries of `sources`: pictures, folders (with all below them), patterns such as `photos/*.jpg`, and tables.

    If `output` is a folder within a source, what is in it is left out: those are results. `on_passed` is told of files
    in folders and patterns that are pictures by their suffix, of a format that is not read. A table is one of `TABLES`
    with the columns `image`, and if wanted `instruction`, `mask`, `output` and any field of `EditOptions`; its paths
    are relative to it. Raises DataError for a source that is none, has no picture, or a row that cannot be used, with
    its number.
    """
    for source in sources:
        found, passed = 0, list[Path]()
        for entry in _read_source(source, instruction, parameters, output, passed.append):
            found += 1
            yield entry
        for path in passed:
            on_passed(path)
        if not found:
            also = f", only {len(passed)} such as {passed[0].name}" if passed else ""
            raise DataError(
                f"{source} has no picture that is read{also}", remedy=f"Those end in {', '.join(readable_suffixes())}"
            )


def count_entries(entries: Iterable[Entry], folder: Path) -> int:
    """How many entries there are, having looked at all of them once: a mistake is told before anything runs.

    Raises DataError as `read_entries`, and if a result would go over an input of any entry, over another result,
    or if no file can be.
    """
    targets: dict[Path, str] = {}
    inputs: set[Path] = set()
    for entry in entries:
        target = _resolved(folder / entry.target)
        _require_place(entry, target)
        if target in targets:
            raise DataError(
                f"{targets[target]} and {entry.name} would both be written to {target}",
                remedy="Give them an output each in a table, or edit them in two calls",
            )
        targets[target] = entry.name
        inputs.update(_resolved(path) for path in (entry.path, entry.mask) if path)
    for target, name in targets.items():
        if target in inputs:
            raise DataError(f"{target} is an input, and inputs are never overwritten", remedy="Choose another -o")
        above = next((parent for parent in target.parents if parent in targets), None)
        if above is not None:
            raise DataError(f"the result of {name} would go into {above}, which is a result", remedy="Rename one")
    return len(targets)


def _within(target: Path) -> Path:
    """A result's path, with a suffix that pixrt writes. Raises DataError if it leaves the output folder."""
    if target.is_absolute() or ".." in target.parts:
        raise DataError(f"the output {target} leaves the output folder", remedy="Give a path within it")
    return writable_name(target)


def _require_place(entry: Entry, target: Path) -> None:
    """Raise DataError if a result cannot be a file."""
    if max(len(os.fsencode(part)) for part in entry.target.parts) > _LONGEST_NAME:
        raise DataError(f"the output {str(entry.target)[:40]}... is too long a name", remedy="Give a shorter one")
    if target.is_dir():
        raise DataError(f"{target} is a folder, and the result of {entry.name} would go there", remedy="Rename one")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links: reading it will say so
        return path.absolute()


def _read_source(
    source: str,
    instruction: str | None,
    parameters: Mapping[str, Any],
    output: Path,
    on_passed: Callable[[Path], None],
) -> Iterator[Entry]:
    path = Path(source)
    if path.suffix.lower() in TABLES and path.is_file():
        yield from _read_table(path, instruction, parameters)
        return
    if instruction is None:
        raise DataError(f"there is no instruction for {source}", remedy="Give one after the pictures")
    options = EditOptions(**parameters)
    if path.is_dir():
        pictures, root = _below(path), path
    elif path.is_file():
        pictures, root = iter([path]), path.parent
    elif glob.has_magic(source):
        root, pattern = _split_pattern(source)
        pictures = _matching(root, pattern)
    else:
        raise DataError(f"{source} is neither a picture, a folder, a pattern nor a table", remedy="Check the path")
    read, results = readable_suffixes(), output.resolve()
    within = root.resolve() in results.parents
    for picture in pictures:
        if within and results in _resolved(picture).parents:
            continue
        if picture.suffix.lower() not in read and picture != path:
            if picture.suffix.lower() in (*READABLE_SUFFIXES, *OTHER_SUFFIXES):
                on_passed(picture)
            continue
        target = _within(Path(os.path.relpath(picture, root)))
        yield Entry(str(picture), picture, None, target, instruction, options)


def _below(folder: Path) -> Iterator[Path]:
    """Files in a folder and those below it, in the order of their names; without hidden ones and linked folders."""
    for here, folders, files in os.walk(folder, onerror=_refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(here, name)


def _refused(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {error.strerror}", remedy="Check its permissions")


def _matching(root: Path, pattern: str) -> Iterator[Path]:
    # Path.glob finds hidden files by wildcards.
    for name in sorted(glob.iglob(f"{glob.escape(str(root))}{os.sep}{pattern}", recursive=True)):  # noqa: PTH207
        path = Path(name)
        if not path.is_dir():
            yield path


def _split_pattern(pattern: str) -> tuple[Path, str]:
    """The folder before a pattern's first wildcard, and the rest. A folder of that very name is meant by brackets."""
    parts = PurePath(pattern).parts
    root, taken = Path(), 0
    for part in parts[:-1]:
        if glob.has_magic(part) and not (root / part).is_dir():
            break
        root, taken = root / part, taken + 1
    return root, str(PurePath(*parts[taken:]))


def _read_table(table: Path, instruction: str | None, parameters: Mapping[str, Any]) -> Iterator[Entry]:
    for number, row in read_rows(table):
        try:
            yield _entry(table, row, instruction, parameters)
        except PixrtError as error:
            raise DataError(f"row {number} of {table}: {error.problem}", remedy=error.remedy) from error


def _entry(table: Path, row: Mapping[str, Any], instruction: str | None, parameters: Mapping[str, Any]) -> Entry:
    image, text = row.get("image"), row.get("instruction", instruction)
    if not isinstance(image, str) or not image:
        raise DataError("it has no image", remedy="Give the picture's path in the column image")
    if not isinstance(text, str):
        raise DataError("it has no instruction", remedy="Give one in the column instruction, or after the table")
    unknown = sorted(row.keys() - _PARAMETERS.keys() - set(_OWN))
    if unknown:
        raise DataError(f"the column {unknown[0]!r:.60} is unknown", remedy=f"Known are {', '.join(_OWN)} and options")
    own = parse_all(EditOptions, {name: _whole(name, row[name]) for name in row.keys() & _PARAMETERS.keys()})
    mask = row.get("mask") or None
    common = {name: value for name, value in parameters.items() if mask or not name.startswith("mask_")}
    options = EditOptions(**{**common, **own})
    output = row.get("output") or Path(image).name
    if not isinstance(output, str) or not Path(output).name or "\0" in f"{image}{output}{row.get('mask')}":
        raise DataError(f"the output is {output!r:.60}, which is no file's name", remedy="Give one")
    target = _within(Path(output))
    return Entry(
        name=image,
        path=table.parent / image,
        mask=None if mask is None else table.parent / str(mask),
        target=target,
        instruction=text,
        options=options,
    )


def _whole(name: str, value: Any) -> Any:
    """A value of a table: where a whole number is wanted, 20.0 is one. Programs write a column with gaps like that."""
    if rule_of(_PARAMETERS[name]).kind == "whole":
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str):
            return re.sub(r"\.0+\s*$", "", value)
    return value
