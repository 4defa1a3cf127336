"""The application: its commands, and every error as one line with a documented exit code."""

import sys
from typing import Annotated

import typer

from pixrt._version import __version__
from pixrt.cli.console import errors
from pixrt.cli.doctor import doctor
from pixrt.cli.edit import edit
from pixrt.cli.export import export
from pixrt.cli.show import inspect, models
from pixrt.errors import Cancelled, PixrtError

app = typer.Typer(
    name="pixrt",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong parameter, 3 unreadable picture, 4 unusable bundle, 5 checkpoint "
    "not exportable, 6 no backend, 7 output not writable, 130 cancelled.",
)
app.command()(edit)
app.command()(models)
app.command()(inspect)
app.command()(doctor)
app.command()(export)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pixrt {__version__}")
        raise typer.Exit


@app.callback()
def _pixrt(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Edit pictures as instructed, on your own hardware."""


def main() -> None:
    """The entry point. A mistake of the user's ends in one line on standard error, never in a traceback."""
    try:
        code = app(standalone_mode=False)
    except PixrtError as error:
        sys.exit(_report(str(error), error.exit_code))
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for a wrong command line has one
            raise
        remedy = "See `pixrt --help`, and `pixrt COMMAND --help`"
        sys.exit(_report(f"{error.format_message().rstrip('.')}. {remedy}.", 2))
    if code == Cancelled.exit_code:
        _report("cancelled.", code)
    sys.exit(code if isinstance(code, int) else 0)


def _report(message: str, code: int) -> int:
    errors.print(f"error: {' '.join(message.split())}", markup=False, highlight=False, soft_wrap=True)
    return code
