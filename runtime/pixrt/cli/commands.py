"""Every command in one table: its panel, the module that it is in, an example. One that is named is imported alone.

What all of them import, and the parameters that typer makes of their flags, take half a second.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer

from pixrt._version import __version__
from pixrt.cli.configuring import defaults_for
from pixrt.cli.parameters import example

_MEASURING = "Training and measuring"


@dataclass(frozen=True, slots=True)
class _Command:
    """A function `name` of the module, in the help's panel; with an example. A group has one for each of its own."""

    name: str
    module: str
    panel: str
    example: str = ""


# In the order of the help.
_COMMANDS = (
    _Command("edit", "edit", "Pictures", 'pixrt edit photo.jpg "make it winter" -o winter.jpg --steps 20'),
    _Command("generate", "edit", "Pictures", 'pixrt generate "a red circle on a green background" -o drawn.png'),
    _Command(
        "img2img", "edit", "Pictures", 'pixrt img2img sketch.png "an oil painting" -b ./text-bundle -o painted.png'
    ),
    _Command(
        "inpaint", "edit", "Pictures", 'pixrt inpaint photo.jpg "a boat" --mask mask.png -b ./text-bundle -o boat.jpg'
    ),
    _Command("style", "edit", "Pictures", "pixrt style photo.jpg painting.jpg -o painted.jpg --strength 0.6"),
    _Command("batch", "batch", "Pictures", 'pixrt batch photos/ "make it winter" -o winter/'),
    _Command("sweep", "sweep", "Pictures", 'pixrt sweep photo.jpg "make it winter" --steps 10,20 --seeds 3 -o swept/'),
    _Command("ui", "ui", "Server", "pixrt ui ./ip2p"),
    _Command("serve", "serve", "Server", "pixrt serve --port 8765 --queue 32"),
    _Command("models", "show", "Bundles", "pixrt models --json"),
    _Command("inspect", "show", "Bundles", "pixrt inspect demo"),
    _Command("doctor", "doctor", "Bundles", "pixrt doctor --bundle ./ip2p"),
    _Command("schema", "schema", "Bundles", "pixrt schema edit --bundle ./ip2p"),
    _Command("pull", "pull", "Bundles", "pixrt pull timbrooks/instruct-pix2pix"),
    _Command("export", "export", "Bundles", "pixrt export instruct-pix2pix -o ip2p --precision fp16"),
    _Command("build", "build", "Bundles", "pixrt build ./ip2p --size 512x512 --batch 1-4"),
    _Command("bench", "bench", _MEASURING, "pixrt bench ./ip2p --size 512 --json bench.json"),
    _Command("tune", "tune", _MEASURING, "pixrt tune ./ip2p --size 512"),
    _Command("data", "data", _MEASURING),
    _Command("evaluate", "evaluate", _MEASURING),
    _Command("train", "train", _MEASURING),
)
_SPELLED = {"evaluate": "eval"}


def application(words: Sequence[str] = ()) -> typer.Typer:
    """The application: with all commands, or with the one that `words`, a command line, begin with."""
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
    named = [each for each in _COMMANDS if _SPELLED.get(each.name, each.name) in words[:1]]
    for each in named or _COMMANDS:
        command: Any = getattr(import_module(f"pixrt.cli.{each.module}"), each.name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=each.panel)
        else:
            app.command(rich_help_panel=each.panel, epilog=example(each.example))(command)
    app.callback(invoke_without_command=True)(_pixrt)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pixrt {__version__}")
        raise typer.Exit


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
    if not gc.isenabled():  # since the process began: what was imported stays, and need not be looked through
        gc.freeze()
        gc.enable()
    context.default_map = defaults_for(context.command)
