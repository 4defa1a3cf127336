"""What the subcommands of `pixrt eval` share: their flags, and the checks before any work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixrt.backends.registry import backend_choices
from pixrt.errors import OptionError, OutputError

if TYPE_CHECKING:
    from pixrt.editor.editor import Editor

ABundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder or name.")]
ABackend = Annotated[str, typer.Option(help="auto, or one that `pixrt doctor` lists.", autocompletion=backend_choices)]
AThreadCount = Annotated[int | None, typer.Option(help="CPU threads; one per core by default.")]
ABatch = Annotated[int, typer.Option(min=1, max=64, help="Most pictures in one network call.")]
AJsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")]
ASheetFile = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE", help="Write a contact sheet, a .png, right and wrong marked.")
]
APlotFile = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write the curves, a .png.")]
ABound = Annotated[float | None, typer.Option(metavar="SHARE", help="Fail below this share, from 0 to 1.")]


def open_editor(
    bundle: str, backend: str, threads: int | None, max_batch: int, loras: tuple[tuple[Path, float], ...]
) -> "Editor":
    """Open the bundle that is to be measured."""
    from pixrt.editor.editor import Editor

    return Editor(bundle, backend=backend, threads=threads, max_batch=max_batch, loras=loras)


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


def numbers(flag: str, text: str) -> list[float]:
    """A list of a flag: numbers with commas. Raises OptionError."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise OptionError(f"{flag} is {text!r}", remedy="Give numbers with commas, such as 1.0,1.5,2.0") from error
