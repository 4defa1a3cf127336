"""What the subcommands of `pixrt eval` share: their flags."""

from pathlib import Path
from typing import Annotated

import typer

from pixrt.apps.sweep import parse_axis
from pixrt.errors import OptionError

ABundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder or name.")]
AJsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")]
ASheetFile = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE", help="Write a contact sheet, a .png, right and wrong marked.")
]
MEASURING = ("backend", "threads", "max_batch")  # of `SessionOptions`, what a measurement lets be chosen
APlotFile = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write the curves, a .png.")]
AnOverwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", help="Replace files of figures that are there already.")
]
ABound = Annotated[float | None, typer.Option(metavar="SHARE", help="Fail below this share, from 0 to 1.")]
AKind = Annotated[
    str | None, typer.Option(metavar="NAME", help="Instructions of this kind alone; all in turn when not given.")
]
APsnr = Annotated[float | None, typer.Option(metavar="DB", help="Fail below this PSNR to the right answer.")]
AWorstBlock = Annotated[
    float | None,
    typer.Option(metavar="LEVELS", help="Fail above this mean error of the worst square, in levels of 255."),
]


def numbers(flag: str, name: str, text: str) -> list[float]:
    """A list of values of an option, such as guidance scales, out of a flag's text. Raises OptionError."""
    try:
        return [float(value) for value in parse_axis(name, text).values]
    except OptionError as error:
        raise OptionError(f"{flag} is {text!r:.60}: {error.problem}", remedy=error.remedy) from error
