"""What the subcommands of `pixrt eval` share: their flags, and the checks before any work."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pixrt.apps.sweep import parse_axis
from pixrt.errors import OptionError, OutputError

ABundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder or name.")]
AJsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")]
ASheetFile = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE", help="Write a contact sheet, a .png, right and wrong marked.")
]
MEASURING = ("backend", "threads", "max_batch")  # of `SessionOptions`, what a measurement lets be chosen
APlotFile = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write the curves, a .png.")]
ABound = Annotated[float | None, typer.Option(metavar="SHARE", help="Fail below this share, from 0 to 1.")]


def require_outputs(*, json_file: Path | None, pictures: tuple[Path | None, ...]) -> None:
    """Raise OutputError where something could not be written in the end: no figure is lost to a bad path."""
    for path in pictures:
        if path is not None and path.suffix.lower() != ".png":
            raise OutputError(f"{path} is not a .png", remedy="Give a name that ends in .png")
    for path in (json_file, *pictures):
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(f"{path} is a folder", remedy="Give a file's name")
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise OutputError(f"{path.parent} is no folder that can be written to", remedy="Choose another one")


def numbers(flag: str, name: str, text: str) -> list[float]:
    """A list of values of an option, such as guidance scales, out of a flag's text. Raises OptionError."""
    try:
        return [float(value) for value in parse_axis(name, text).values]
    except OptionError as error:
        raise OptionError(f"{flag} is {text!r:.60}: {error.problem}", remedy=error.remedy) from error
