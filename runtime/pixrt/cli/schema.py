"""`pixrt schema`: what every task takes, and how a bundle is opened, as JSON Schema."""

import json
from typing import Annotated

import typer

from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.cli.console import say
from pixrt.errors import OptionError
from pixrt.options.schema import json_schema
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import TASK_OPTIONS, bundle_defaults

_KINDS = {**TASK_OPTIONS, "session": SessionOptions}


def schema(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            help=f"One of {', '.join(_KINDS)}; all in one object when not given.",
            autocompletion=lambda: list(_KINDS),
        ),
    ] = None,
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", metavar="BUNDLE", help="Whose defaults are told: a folder or a name.")
    ] = DEFAULT_BUNDLE,
) -> None:
    """Print the options of a task, or of opening a bundle (session), as JSON Schema, with the bundle's defaults."""
    if task is not None and task not in _KINDS:
        raise OptionError(f"there is no task {task!r:.60}", remedy=f"Choose one of {', '.join(_KINDS)}")
    manifest = open_bundle(bundle, verify=False).manifest
    schemas = {
        name: json_schema(options, name, bundle_defaults(options, manifest.defaults, manifest.native_resolution))
        for name, options in _KINDS.items()
    }
    for line in json.dumps(schemas if task is None else schemas[task], indent=1).splitlines():
        say(line)
