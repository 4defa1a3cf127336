"""`pixrt serve`: the HTTP server. Of the command line only this and `ui` reach for it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixrt.bundles.store import DEFAULT_BUNDLE
from pixrt.cli.console import say, warn
from pixrt.cli.display import errors, facts_table
from pixrt.cli.extras import require_packages
from pixrt.cli.outputs import require_figures, write_json
from pixrt.cli.parameters import with_flags
from pixrt.cli.stopping import leave_to_others
from pixrt.errors import OptionError
from pixrt.options.ray import RayOptions
from pixrt.options.serve import SERVE_SESSION, ServeOptions
from pixrt.options.session import SessionOptions

if TYPE_CHECKING:
    from pixrt.serve.settings import Settings

PACKAGES = (
    *("fastapi", "httptools", "limits", "prometheus_client"),
    *("pydantic_settings", "python_multipart", "sse_starlette", "uvicorn"),
)
RAY_PACKAGES = ("ray",)
_OTEL_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter")
_PLANNING = "Planning"


@with_flags(SessionOptions, "session", defaults=SERVE_SESSION)
@with_flags(RayOptions, "share")
@with_flags(ServeOptions)
def serve(
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle", "-b", metavar="BUNDLE", help=f"A bundle's folder or name. [default: {DEFAULT_BUNDLE}]"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file of settings, called as the flags are, with underscores. PIXRT_SERVE_NAME in the"
            " environment comes before it, and flags before that.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", metavar="", help="Check everything, open the bundle, print what holds, and end.")
    ] = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            metavar="",
            help="Serve on Ray: on the cluster that RAY_ADDRESS names, else on one of this machine.",
            rich_help_panel="Ray",
        ),
    ] = False,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print a new API key and its line for --keys-file, and end.")
    ] = None,
    simulate: Annotated[
        Path | None,
        typer.Option(
            metavar="TRACE",
            help="Serve nothing: run the server's own scheduler over a trace of requests, and print what they wait.",
            rich_help_panel=_PLANNING,
        ),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="CURVE",
            help="With --simulate: a device's name, milliseconds of a step as FIXED+PER_ROW, FILE.json; else this one.",
            rich_help_panel=_PLANNING,
        ),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="With --simulate: arrivals as a share of what the device does one at a time; else the trace's own.",
            rich_help_panel=_PLANNING,
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="With --simulate: write the figures as JSON, and this device's curve, which --curve FILE.json reads.",
            rich_help_panel=_PLANNING,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", metavar="", help="Replace the file of --json if it is there.", rich_help_panel=_PLANNING
        ),
    ] = False,
    *,
    parameters: dict[str, Any],
    session: dict[str, Any],
    share: dict[str, Any],
) -> None:
    """Serve a bundle over HTTP: OpenAI's images API, jobs, KServe v2, AUTOMATIC1111's and Hugging Face's."""
    if new_key is not None:
        _print_key(new_key)
        return
    require_packages(*PACKAGES, extra="serve", purpose="serving")
    from pixrt.serve.settings import read_settings

    chosen = {} if bundle is None else {"bundle": bundle}
    given = {**chosen, **parameters, **session, **share}
    settings = read_settings(given, config)
    if share and not ray:
        raise OptionError(f"{next(iter(share))} is for several replicas", remedy="Say --ray", option=next(iter(share)))
    if settings.options.otel:
        require_packages(*_OTEL_PACKAGES, extra="otel", purpose="sending spans")
    if simulate is not None:
        from pixrt.serve.simulate import main

        require_figures(json_file, overwrite=overwrite)
        figures = main(settings, simulate, curve=curve, load=load, say=say)
        if json_file is not None:
            write_json(json_file, figures, overwrite=overwrite)
    elif check:
        _check(settings)
    elif ray:
        require_packages(*RAY_PACKAGES, extra="ray", purpose="serving on Ray")
        from pixrt.ray import serving

        serving.serve(settings, say, again=lambda: read_settings(given, config))
    else:
        from pixrt.serve import server

        if errors.is_terminal:
            errors.print(facts_table([(name, _told(value, source)) for name, value, source in settings.describe()]))
        leave_to_others()
        server.serve(settings, say)


def _print_key(name: str) -> None:
    from pixrt.serve.guard.keys import new_key

    key, line = new_key(name)
    say(f"key: {key}")
    say(f"line: {line}")
    warn("the key is not shown again; the line belongs in the file that --keys-file names, which others may not write")


def _check(settings: "Settings") -> None:
    """Print every setting, then what the bundle is, once it is open."""
    from pixrt.serve.server import check

    _say_all((name, _told(value, source)) for name, value, source in settings.describe())
    for note in settings.notes:
        warn(note)
    model = check(settings)
    seconds = f"{model.load_seconds:.1f} s"
    _say_all(
        [("model", model.name), ("runs on", model.backend), ("tasks", ", ".join(model.tasks)), ("open in", seconds)]
    )
    say("all is well; nothing was served")


def _say_all(facts: Iterable[tuple[str, str]]) -> None:
    for name, fact in facts:
        say(f"{name}: {fact}")


def _told(value: str, source: str) -> str:
    return f"{value or '-'} ({source})"
