"""A user of whom the system knows no home folder, as in a container that runs as any number, is told so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pixrt.bundles.hashes import remembered
from pixrt.errors import PixrtError
from pixrt.places import cache_folder, data_folder, settings_folder

UNKNOWN = """
import pwd
def getpwuid(uid): raise KeyError(uid)
pwd.getpwuid = getpwuid
from pixrt.cli import main
main()
"""
HOMELESS = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")


@pytest.mark.skipif(os.name != "posix", reason="other systems have other folders")
def test_without_a_home_the_command_says_so() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in HOMELESS}
    command = [sys.executable, "-c", UNKNOWN, "models"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == PixrtError.exit_code
    assert done.stderr.startswith("error: this user has no home folder: neither HOME nor XDG_")
    assert "Set HOME to a folder" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("answer", [RuntimeError("no home"), Path("~/.cache/pixrt")])
def test_without_a_cache_nothing_is_remembered(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes cost time then, and nothing else."""

    def ask(name: str) -> Path:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Path)
        return answer

    for name in ("user_cache_path", "user_data_path", "user_config_path"):
        monkeypatch.setattr(f"platformdirs.{name}", ask)
    assert remembered() == {}
    for find in (cache_folder, data_folder, settings_folder):
        with pytest.raises(PixrtError, match="has no home folder"):
            find()


def test_tests_have_a_cache_of_their_own() -> None:
    assert cache_folder().parent.name.startswith("pixrt-tests-cache-")
