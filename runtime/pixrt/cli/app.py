"""The application: its commands, and every error as one line with a documented exit code."""

import sys
import warnings
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from pixrt._version import __version__
from pixrt.cli.batch import batch
from pixrt.cli.bench import bench
from pixrt.cli.build import build
from pixrt.cli.configuring import defaults_for
from pixrt.cli.console import fail, warn
from pixrt.cli.data import data
from pixrt.cli.doctor import doctor
from pixrt.cli.edit import edit, generate, img2img, inpaint, style
from pixrt.cli.evaluate import evaluate
from pixrt.cli.export import export
from pixrt.cli.parameters import example
from pixrt.cli.pull import pull
from pixrt.cli.schema import schema
from pixrt.cli.serve import serve
from pixrt.cli.show import inspect, models
from pixrt.cli.stopping import CANCELLED, KEPT, was_stopped
from pixrt.cli.streams import print_problem
from pixrt.cli.sweep import sweep
from pixrt.cli.train import train
from pixrt.cli.tune import tune
from pixrt.cli.ui import ui
from pixrt.cli.usage import explain_usage
from pixrt.errors import BackendError, Cancelled, OutputError, PixrtError

app = typer.Typer(
    name="pixrt",
    # Panels. What is printed in them is pixrt's own text; `escape` keeps its brackets.
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong parameter, 3 unreadable picture, 4 unusable bundle, 5 checkpoint "
    "not exportable, 6 no backend, 7 output not writable, 8 training failed, 9 unusable training data, "
    "10 missing package, 130 cancelled.",
)
_MEASURING = "Training and measuring"
_PANELS: dict[str, dict[Callable[..., None], str]] = {
    "Pictures": {
        edit: 'pixrt edit photo.jpg "make it winter" -o winter.jpg --steps 20',
        generate: 'pixrt generate "a red circle on a green background" -o drawn.png',
        img2img: 'pixrt img2img sketch.png "an oil painting" -b ./text-bundle -o painted.png',
        inpaint: 'pixrt inpaint photo.jpg "a boat" --mask mask.png -b ./text-bundle -o boat.jpg',
        style: "pixrt style photo.jpg painting.jpg -o painted.jpg --strength 0.6",
        batch: 'pixrt batch photos/ "make it winter" -o winter/',
        sweep: 'pixrt sweep photo.jpg "make it winter" --steps 10,20 --seeds 3 -o swept/',
    },
    "Server": {
        ui: "pixrt ui ./ip2p",
        serve: "pixrt serve --port 8765 --queue 32",
    },
    "Bundles": {
        models: "pixrt models --json",
        inspect: "pixrt inspect demo",
        doctor: "pixrt doctor --bundle ./ip2p",
        schema: "pixrt schema edit --bundle ./ip2p",
        pull: "pixrt pull timbrooks/instruct-pix2pix",
        export: "pixrt export instruct-pix2pix -o ip2p --precision fp16",
        build: "pixrt build ./ip2p --size 512x512 --batch 1-4",
    },
}
for _panel, _commands in _PANELS.items():
    for _command, _example in _commands.items():
        app.command(rich_help_panel=_panel, epilog=example(_example))(_command)
app.command(rich_help_panel=_MEASURING, epilog=example("pixrt bench ./ip2p --size 512 --json bench.json"))(bench)
app.command(rich_help_panel=_MEASURING, epilog=example("pixrt tune ./ip2p --size 512"))(tune)
for _group in (data, evaluate, train):
    app.add_typer(_group, rich_help_panel=_MEASURING)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pixrt {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _pixrt(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Edit pictures as instructed, on your own hardware. `pixrt COMMAND --help` says what a command takes."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit
    context.default_map = defaults_for(context.command)


def run() -> NoReturn:
    """Run the command and exit. A mistake of the user's ends in one line on standard error, never in a traceback."""
    # A picture so large that Pillow warns of it is refused by pixrt, with its numbers.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    warnings.showwarning = _show
    try:
        code = app(prog_name="pixrt", standalone_mode=False)
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
