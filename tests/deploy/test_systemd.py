"""The unit of systemd: what it runs, what it may, and that it lets the server finish."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from deployed import DEPLOY, seconds_to_end
from pixrt.cli.app import app
from pixrt.serve.guard.keys import Keys, new_key
from pixrt.serve.settings import read_settings

UNIT, DROP_IN, SETTINGS = (DEPLOY / "systemd" / name for name in ("pixrt.service", "cuda.conf", "serve.toml"))
NO_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")


def settings_of(file: Path) -> dict[str, list[str]]:
    """The lines of a unit by name; a name may stand several times."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    return settings_of(UNIT)


def test_its_command_is_one_that_there_is(unit: dict[str, list[str]]) -> None:
    (line,) = unit["ExecStart"]
    program, name, *words = line.split()
    assert (program, name) == ("/opt/pixrt/bin/pixrt", "serve")
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    given = command.make_context("pixrt", words, resilient_parsing=False).params
    assert str(given["keys_file"]) == "${CREDENTIALS_DIRECTORY}/keys"
    assert [credential.partition(":")[0] for credential in unit["LoadCredential"]] == ["keys"]


def test_its_settings_are_read(tmp_path: Path) -> None:
    shutil.copy(SETTINGS, tmp_path)
    settings = read_settings({}, tmp_path / SETTINGS.name)
    assert settings.notes == ()
    assert settings.sources["rate"] == str(tmp_path / SETTINGS.name)


def test_the_server_has_time_to_finish(unit: dict[str, list[str]]) -> None:
    options = read_settings({}, SETTINGS).options
    assert int(unit["TimeoutStopSec"][0]) > seconds_to_end(options)
    assert unit["KillMode"] == ["mixed"], "the server ends its worker; SIGTERM to both would lose pictures"


def test_it_writes_into_folders_that_it_has(unit: dict[str, list[str]]) -> None:
    words = [word.partition("=") for line in unit["Environment"] for word in line.split()]
    variables = {name: value for name, _, value in words}
    assert variables["XDG_CACHE_HOME"] == f"/var/cache/{unit['CacheDirectory'][0]}"
    assert variables["XDG_DATA_HOME"] == f"/var/lib/{unit['StateDirectory'][0]}"
    known = {"PIXRT_MODELS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"}
    assert set(variables) == known


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_keys_as_a_credential_are_taken(tmp_path: Path) -> None:
    """systemd gives the service a copy that it alone reads, and nobody writes."""
    file = tmp_path / "keys"
    file.write_text(new_key("anna")[1])
    file.chmod(0o400)
    keys = Keys(file)
    assert (keys.names, keys.notes) == (("anna",), ())


def analyze(folder: Path, *words: str) -> str:
    """What systemd says of the unit with its drop-in; it has a program that is there."""
    text = UNIT.read_text().replace("/opt/pixrt/bin/pixrt", "/bin/true")
    (folder / UNIT.name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", *words, str(folder / UNIT.name)], capture_output=True, text=True, env=os.environ
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout + said.stderr


@NO_SYSTEMD
@pytest.mark.parametrize("drop_ins", [(), (DROP_IN,)], ids=["cpu", "cuda"])
def test_systemd_understands_it(drop_ins: tuple[Path, ...], tmp_path: Path) -> None:
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    for file in drop_ins:
        shutil.copy(file, folder)
    assert analyze(tmp_path, "verify") == ""


@NO_SYSTEMD
def test_it_may_little(tmp_path: Path) -> None:
    """By systemd's own measure: 0 is nothing, 10 all; a service that says nothing of it has 9.6."""
    said = analyze(tmp_path, "security", "--offline=yes", "--no-pager")
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(exposure) <= 1.5
