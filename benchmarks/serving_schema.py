"""The server against its own OpenAPI document: schemathesis makes requests of it, right and wrong ones, and judges.

    python benchmarks/serving_schema.py --environment FOLDER

Starts `pixrt serve` with an engine that computes nothing. Every check of schemathesis but one: that what the document
allows is accepted, for it cannot say that a mask must be as large as its picture. Ends with 1 if anything is wrong.
FOLDER keeps schemathesis for the next run.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from figures.process import Served
from serving_clients import installed

PACKAGES = ("schemathesis==4.32.5",)
HOOKS = Path(__file__).parent / "fuzzing" / "hooks.py"
NOT_CHECKED = "positive_data_acceptance"
# A deadline that cannot be met is 504.
CONFIG = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 504]\n'
CHECKS = ("--checks", "all", "--exclude-checks", NOT_CHECKED, "--mode", "all", "--request-timeout", "30")


def check(environment: Path, examples: int, seed: int) -> tuple[int, str]:
    """Run it on a server of its own: 0 if nothing is wrong, and what it printed."""
    python = installed(PACKAGES, environment)
    with Served("--backend", "null") as server, tempfile.TemporaryDirectory() as folder:
        command = [str(python.with_name("st")), "run", f"{server.address}/openapi.json", *CHECKS, "--no-color"]
        command += ["--warnings", "off", "--max-examples", str(examples), "--seed", str(seed)]
        (Path(folder) / "schemathesis.toml").write_text(CONFIG)
        environ = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS.stem, "PYTHONPATH": str(HOOKS.parent)}
        made = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=3600)
        errors = [line for line in server.log.splitlines() if " error " in line]
    return made.returncode or len(errors), "\n".join([made.stdout, made.stderr, *errors])


def main(
    environment: Annotated[Path | None, typer.Option(help="A folder that keeps schemathesis.")] = None,
    examples: Annotated[int, typer.Option(help="Requests of each kind for each operation, at most.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the requests.")] = 0,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        status, printed = check(environment or Path(name), examples, seed)
    print(printed)
    raise typer.Exit(int(bool(status)))


if __name__ == "__main__":
    typer.run(main)
