"""Where results go: decided and checked before any work, so that no edit is lost to a bad path."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.errors import OptionError, OutputError
from pixrt.files import atomic_write, require_free, target_of
from pixrt.pictures.formats import WRITABLE_SUFFIXES, writable_name

if TYPE_CHECKING:
    from PIL import Image

STREAM = Path("-")  # as an output standard output, as an input standard input


def plan_outputs(
    inputs: Sequence[str],
    output: Path,
    *,
    keep: Sequence[Path] = (),
    made: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """One target per input. A path with a picture's suffix is a file, for one input; any other is a folder.

    `STREAM` is for one input too. In a folder a picture keeps its name (and its suffix where pixrt can write it).
    `keep` are further files that must not be written to; `made` inputs are names alone, not files. Nothing is created.
    Raises OutputError where a target is an input or no regular file, exists and not `overwrite`, two inputs share a
    target, or the folder cannot be written to.
    """
    if output == STREAM and len(inputs) == 1:
        return [STREAM]
    try:
        return _plan(inputs, output, keep, made, overwrite)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, no permission to look
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write to {output}: {reason}", remedy="Choose another -o") from error


def split_text(words: Sequence[str], suffixes: tuple[str, ...]) -> tuple[list[str], str]:
    """Files and the text after them, out of a command's arguments.

    Raises OptionError for fewer than two words, a text without quotes, an empty one, and one that looks like a file.
    """
    *files, text = words
    if not files:
        raise OptionError(f"{text!r} alone is not enough", remedy="Give pictures, then the text, in quotes")
    plain = [word for word in files if not _names_file(word, suffixes)]
    if Path(text).suffix.lower() in suffixes:
        if plain and plain == files[: len(plain)]:
            raise OptionError(
                f"the text {' '.join(plain)!r:.60} stands before the pictures", remedy="Give it last, in quotes"
            )
        raise OptionError(
            f"the last argument, {text!r}, looks like a file, and it must be the text",
            remedy="Give pictures, then the text, in quotes",
        )
    if 0 < len(plain) < len(files) and plain == files[-len(plain) :]:
        said = " ".join([*plain, text])
        problem = f"the text came as {len(plain) + 1} arguments"
        raise OptionError(problem, remedy=f'Put it in quotes: "{said}"')
    if not text.strip():
        raise OptionError("the text is empty", remedy='Say what you want, in quotes, such as "make it winter"')
    return files, text


def _names_file(word: str, suffixes: tuple[str, ...]) -> bool:
    """Whether an argument is meant to be a file or a folder, by its looks or because there is one."""
    if word == str(STREAM) or any(mark in word for mark in "/\\*?[") or word.lower().endswith(suffixes):
        return True
    try:
        return Path(word).exists() or bool(re.fullmatch(r"\S+\.\w{1,6}", word))
    except (OSError, ValueError):
        return False


def number_outputs(count: int, output: Path, *, keep: Sequence[Path] = (), overwrite: bool = False) -> list[Path]:
    """One target per picture that is made of nothing: the file, or numbered files in the folder. Raises OutputError."""
    digits = len(str(count - 1))
    names = [f"{number:0{digits}}.png" for number in range(count)]
    return plan_outputs(names, output, keep=keep, made=True, overwrite=overwrite)


def require_figures(json_file: Path | None, *pictures: Path | None, overwrite: bool) -> None:
    """Raise OutputError where a measurement's files could not be written in the end: no figure is lost to a path."""
    for path in pictures:
        if path is not None and path.suffix.lower() != ".png":
            raise OutputError(f"{path} is not a .png", remedy="Give a name that ends in .png")
    for path in (json_file, *pictures):
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(f"{path} is a folder", remedy="Give a file's name")
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            problem = f"{path} cannot be written: {path.parent} is no folder that can be written to"
            raise OutputError(problem, remedy="Choose another one")
        require_free(path, overwrite=overwrite)


def write_json(path: Path, facts: dict[str, Any], *, overwrite: bool) -> None:
    """Write the facts of a measurement, whole or not at all. Raises OutputError."""
    with atomic_write(path, overwrite=overwrite) as file:
        file.write(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_png(path: Path, picture: "Image.Image", *, overwrite: bool) -> None:
    """Write a picture of a measurement, whole or not at all. Raises OutputError."""
    with atomic_write(path, overwrite=overwrite) as file:
        picture.save(file, "PNG")


def _plan(inputs: Sequence[str], output: Path, keep: Sequence[Path], made: bool, overwrite: bool) -> list[Path]:
    if output == STREAM:
        raise OutputError(f"{len(inputs)} pictures cannot all go to standard output", remedy="Give a folder with -o")
    is_file = output.suffix.lower() in WRITABLE_SUFFIXES and not output.is_dir()
    if is_file and len(inputs) > 1:
        raise OutputError(f"{len(inputs)} pictures cannot all become {output}", remedy="Give a folder with -o")
    if not is_file and output.suffix and not output.is_dir():
        raise OutputError(
            f"{output} has the suffix {output.suffix}, which pixrt does not write",
            remedy=f"Use one of {', '.join(WRITABLE_SUFFIXES)}, or name a folder without a suffix",
        )
    targets = [output] if is_file else [output / _name(path) for path in inputs]
    taken: dict[Path, str] = {}
    sources = {target_of(path) for path in (*([] if made else map(Path, inputs)), *keep) if path != STREAM}
    for path, target in zip(inputs, targets, strict=True):
        place = target_of(target)
        if place in sources:
            raise OutputError(f"{target} is an input, and inputs are never overwritten", remedy="Choose another -o")
        if place in taken:
            raise OutputError(
                f"{taken[place]} and {path} would both be written to {target}", remedy="Edit them in two calls"
            )
        require_free(target, overwrite=overwrite)
        taken[place] = path
    require_writable(output.parent if is_file else output)
    return targets


def _name(path: str) -> str:
    """What a picture is called in the folder of the results."""
    return "stdin.png" if path == str(STREAM) else writable_name(Path(path)).name


def require_writable(folder: Path) -> None:
    """The folder, or where it does not exist yet the nearest one above it, is one and can be written to."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise OutputError(f"{existing} is a file, not a folder", remedy="Choose another -o")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"the folder {existing} is not writable", remedy="Change its permissions, or choose another")
