"""`pixrt ui`: the web page in the browser, on a server of its own, for this user alone."""

import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from pixrt.bundles.store import DEFAULT_BUNDLE
from pixrt.cli.browser import has_browser, show
from pixrt.cli.console import say, warn
from pixrt.cli.extras import require_packages
from pixrt.cli.parameters import with_flags
from pixrt.cli.serve import PACKAGES
from pixrt.cli.stopping import leave_to_others
from pixrt.options.serve import SERVE_SESSION
from pixrt.options.session import SessionOptions

# Whatever the environment says of a server that others use.
_OWN = {"host": "127.0.0.1", "allowed_hosts": "", "keys_file": None, "insecure": False}


@with_flags(SessionOptions, "session", defaults=SERVE_SESSION)
def ui(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="[BUNDLE]", help=f"A bundle's folder or name. [default: {DEFAULT_BUNDLE}]", show_default=False
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.", show_default=False)
    ] = True,
    port: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="The port; 0 takes a free one. A browser keeps a history for each.",
        ),
    ] = 0,
    lora_folder: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A folder of LoRA files (.safetensors), which the page offers.")
    ] = None,
    *,
    session: dict[str, Any],
) -> None:
    """Edit pictures in the browser: a page on a server of its own, which nobody else can use. Ctrl-C ends it."""
    require_packages(*PACKAGES, extra="serve", purpose="serving")
    from pixrt.serve import server
    from pixrt.serve.guard.keys import Keys, new_key
    from pixrt.serve.settings import read_settings

    key, line = new_key("ui")
    chosen = {} if bundle is None else {"bundle": bundle}
    folder = {} if lora_folder is None else {"lora_folder": lora_folder}
    settings = read_settings({**chosen, **folder, **_OWN, "port": port, **session})
    is_shown = browser and has_browser()

    def on_address(address: str) -> None:
        page = f"{address}/#key={key}"
        say(page)
        if is_shown:
            warn("opening it in the browser; Ctrl-C ends it, and the key with it")
            threading.Thread(target=_show, args=(page,), daemon=True).start()
        else:
            why = "" if not browser else "no browser was found: "
            warn(f"{why}open this address in one; Ctrl-C ends it, and the key with it")

    leave_to_others()
    server.serve(settings, on_address, keys=Keys(None, [line]), is_quiet=True)


def _show(page: str) -> None:
    if not show(page):
        warn("the browser could not be started: open the address above in one")
