"""The command line as a program: its command is run, and every error becomes one line with a documented exit code."""

import os
import sys
import warnings
from typing import NoReturn

import typer

from pixrt.cli.commands import application
from pixrt.cli.console import fail, warn
from pixrt.cli.stopping import CANCELLED, KEPT, was_stopped
from pixrt.cli.streams import print_problem
from pixrt.cli.usage import explain_usage
from pixrt.errors import BackendError, Cancelled, OutputError, PixrtError

_COMPLETION = "_PIXRT_COMPLETE"  # set by a shell that asks what a line could go on with


def run() -> NoReturn:
    """Run the command and exit. A mistake of the user's ends in one line on standard error, never in a traceback."""
    # A picture so large that Pillow warns of it is refused by pixrt, with its numbers.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    warnings.showwarning = _show
    try:
        code = application(() if _COMPLETION in os.environ else sys.argv[1:])(prog_name="pixrt", standalone_mode=False)
    except Cancelled as error:
        sys.exit(_report(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_report(_CANCELLED))
    except Exception as error:
        sys.exit(_report(_CANCELLED) if was_stopped() else _explain(error))
    if code == Cancelled.exit_code:
        sys.exit(_report(_CANCELLED))
    problem = print_problem()
    sys.exit(_explain(problem) if problem is not None else code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Say what went wrong; the exit code. Raises what is no mistake of the user's."""
    try:
        raise error
    except PixrtError as error:
        return _report(error)
    except MemoryError:
        return _report(BackendError("the machine ran out of memory", remedy=_LESS_MEMORY))
    except OSError as error:
        if error.filename is not None:
            return _report(PixrtError(f"{error.filename}: {error.strerror}", remedy="Check that file or folder"))
        return _report(OutputError(f"cannot print: {error.strerror}", remedy="Check where the output goes"))
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for a wrong command line has one
            raise
        return _report(explain_usage(error), 2)


def _show(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a note: where in the code it was given says nothing to a user."""
    warn(str(message))


_CANCELLED = Cancelled(CANCELLED, remedy=KEPT)
_LESS_MEMORY = "Use a smaller --resolution or --max-batch, or --low-memory"


def _report(error: PixrtError, code: int | None = None) -> int:
    fail(str(error))
    return error.exit_code if code is None else code
