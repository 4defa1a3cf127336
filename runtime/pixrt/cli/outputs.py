"""Where results go: decided and checked before any work, so that no edit is lost to a bad path."""

import os
from collections.abc import Sequence
from pathlib import Path

from pixrt.codecs import WRITABLE_SUFFIXES
from pixrt.errors import OutputError


def plan_outputs(inputs: Sequence[str], output: Path) -> list[Path]:
    """One target per input. A path with a picture's suffix is a file, for one input; any other is a folder.

    In a folder a picture keeps its name (and its suffix where pixrt can write it). Raises OutputError where a target is
    an input, two inputs share a target, or the folder cannot be written to.
    """
    is_file = output.suffix.lower() in WRITABLE_SUFFIXES and not output.is_dir()
    if is_file and len(inputs) > 1:
        raise OutputError(f"{len(inputs)} pictures cannot all become {output}", remedy="Give a folder with -o")
    if not is_file and output.suffix and not output.is_dir():
        raise OutputError(
            f"{output} has the suffix {output.suffix}, which pixrt does not write",
            remedy=f"Use one of {', '.join(WRITABLE_SUFFIXES)}, or name a folder without a suffix",
        )
    targets = [output] if is_file else [output / _name(Path(path)) for path in inputs]
    taken: dict[Path, str] = {}
    sources = {Path(path).resolve() for path in inputs}
    for path, target in zip(inputs, targets, strict=True):
        if target.resolve() in sources:
            raise OutputError(f"{target} is an input, and inputs are never overwritten", remedy="Choose another -o")
        if target in taken:
            raise OutputError(
                f"{taken[target]} and {path} would both be written to {target}", remedy="Edit them in two calls"
            )
        taken[target] = path
    _require_writable(output.parent if is_file else output, create=not is_file)
    return targets


def _name(path: Path) -> str:
    return path.name if path.suffix.lower() in WRITABLE_SUFFIXES else f"{path.stem}.png"


def _require_writable(folder: Path, *, create: bool) -> None:
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}", remedy="Choose another -o") from error
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist", remedy="Make it first, or choose another -o")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} is not writable", remedy="Change its permissions, or choose another -o")
