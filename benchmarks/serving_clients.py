"""Real clients of `pixrt serve`, each in an environment of its own: what works, and whether the pictures are right.

    python benchmarks/serving_clients.py --environments FOLDER

Starts `pixrt serve` with the model `shapes`, API keys and a short queue, installs each client from wheels, and runs its
script of `benchmarks/clients`. Every picture that a client gets is compared with the single edit that the Python API
makes of the same parameters: every pixel must be the same. Ends with 1 if anything fails. FOLDER keeps the environments
for the next run.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from clients.calls import MASK, SCENE, Server
from pixrt import Editor

PIXRT = str(Path(sys.executable).with_name("pixrt"))
SCRIPTS = Path(__file__).parent / "clients"
# 8 slots and 4 places in the queue: fewer than the openai script asks for at once. AIPerf reads /metrics without a key.
SERVING = ("--bundle", "shapes", "--port", "0", "--queue", "4", "--max-batch", "8", "--open-metrics")


@dataclass(frozen=True)
class Client:
    """A client: the script that makes its calls, and the wheels of its environment, its own first."""

    script: str
    packages: tuple[str, ...]


CLIENTS = {
    "openai": Client("call_openai.py", ("openai==3.57.0",)),
    "aiperf": Client("call_aiperf.py", ("aiperf==0.13.0",)),
    "tritonclient": Client("call_tritonclient.py", ("tritonclient[http]==2.73.0", "pillow")),
    "webuiapi": Client("call_webuiapi.py", ("webuiapi==0.9.17",)),
    "huggingface_hub": Client("call_huggingface.py", ("huggingface-hub==2.4.0", "pillow")),
    "litellm": Client("call_litellm.py", ("litellm==1.110.2",)),
}


@dataclass(frozen=True)
class Outcome:
    """One call of a client: how many pictures it got, and what is wrong, "" if nothing."""

    call: str
    pictures: int
    wrong: str


def main(
    environments: Annotated[Path | None, typer.Option(help="A folder that keeps the environments.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(CLIENTS)}; may be repeated.")] = None,
) -> None:
    table = Table("client", "version", "calls", "pictures", "what worked", "what did not")
    failed = False
    with tempfile.TemporaryDirectory() as name, Editor("shapes") as editor, serving(Path(name), editor) as server:
        folder = environments or Path(name) / "environments"
        for name in only or CLIENTS:
            python = environment(name, folder)
            outcomes = run(name, python, server, editor)
            right = [each for each in outcomes if not each.wrong]
            wrong = [f"{each.call}: {each.wrong}" for each in outcomes if each.wrong]
            failed |= bool(wrong)
            made = str(sum(each.pictures for each in right))
            calls = f"{len(right)}/{len(outcomes)}"
            worked = ", ".join(each.call for each in right)
            table.add_row(name, version(name, python), calls, made, worked, "\n".join(wrong))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    raise typer.Exit(int(failed))


@contextlib.contextmanager
def serving(folder: Path, editor: Editor) -> Iterator[Server]:
    """A server of the model of drawn scenes, which `editor` has too, on a free port, with an API key."""
    printed = subprocess.run(
        [PIXRT, "serve", "--new-key", "clients"], check=True, capture_output=True, text=True
    ).stdout
    said = dict(line.split(": ", 1) for line in printed.splitlines())
    keys = folder / "keys"
    keys.write_text(said["line"] + "\n")
    keys.chmod(0o600)
    command = [PIXRT, "serve", *SERVING, "--keys-file", str(keys)]
    log = folder / "server.log"
    with log.open("w") as told, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise SystemExit(f"the server did not start: {log.read_text()[-4000:]}")
            yield Server(address, said["key"], editor.manifest.name)
        finally:
            process.terminate()


def environment(name: str, folder: Path) -> Path:
    """The Python of a client's environment."""
    return installed(CLIENTS[name].packages, folder / name)


def installed(packages: Sequence[str], home: Path) -> Path:
    """The Python of an environment with these packages, made if it is not there. Wheels only: nothing is built."""
    python, kept = home / "bin" / "python", home / "installed.json"
    if not kept.exists() or json.loads(kept.read_text()) != list(packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages]
        subprocess.run(command, check=True)
        kept.write_text(json.dumps(packages))
    return python


def version(name: str, python: Path) -> str:
    """Which version of a client an environment has."""
    package = CLIENTS[name].packages[0].partition("==")[0].partition("[")[0]
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def run(name: str, python: Path, server: Server, editor: Editor) -> list[Outcome]:
    """A client's calls, and whether the pictures are those of the single edits."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(SCRIPTS / CLIENTS[name].script), server.url, server.key, server.model, folder]
        made = subprocess.run(command, capture_output=True, text=True, timeout=900)
        calls = Path(folder) / "calls.json"
        if made.returncode or not calls.exists():
            return [Outcome("its script", 0, made.stderr[-2000:])]
        return [judge(each, editor) for each in json.loads(calls.read_text())]


def judge(call: dict[str, Any], editor: Editor) -> Outcome:
    """What became of a call that a client's script tells of."""
    wrong = call["error"].strip().splitlines()[-1:] or [
        f"picture {number} differs from the single edit"
        for number, picture in enumerate(call["pictures"])
        if not np.array_equal(_pixels(Image.open(picture["picture"])), _pixels(single(picture, editor)))
    ]
    return Outcome(call["call"], len(call["pictures"]), "; ".join(wrong))


def single(same: dict[str, Any], editor: Editor) -> Image.Image:
    """What the Python API makes of the parameters of a `Same`."""
    if same["task"] == "generate":
        return editor.generate(same["text"], **same["parameters"]).image
    mask = MASK if same["mask"] else None
    return editor.edit(SCENE, same["text"], mask=mask, **same["parameters"]).image


def _pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    typer.run(main)
