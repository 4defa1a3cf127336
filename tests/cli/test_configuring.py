"""Settings of one's own: a flag comes before a variable, and that before the file, whose mistakes are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixrt.options.fields import option_fields
from pixrt.options.session import SessionOptions
from shapes import Run


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("PIXRT_CONFIG", str(path))
    return path


def session(run: Run, *words: str) -> tuple[int, str]:
    """What an edit says of the backend that it would run on."""
    outcome = run("edit", "scene.png", "make it darker", "-o", "o.png", "--steps", 1, "--json", *words)
    return outcome.code, json.loads(outcome.out)["backend"] if outcome.code == 0 else outcome.err


def test_a_flag_a_variable_and_the_file(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('backend = "null"\nmax_batch = 2\nlow_memory = true\n[provider_options]\nstep_ms = "0"\n')
    assert session(run)[1].startswith("null")
    monkeypatch.setenv("PIXRT_BACKEND", "openvino-not")
    code, problem = session(run, "--overwrite")
    assert code == 2
    assert "openvino-not" in problem
    assert session(run, "--overwrite", "--backend", "null")[1].startswith("null")


@pytest.mark.parametrize("words", [("eval", "world", "--help"), ("batch", "--help"), ("doctor", "--json")])
def test_other_commands_take_it(run: Run, config: Path, words: tuple[str, ...]) -> None:
    config.write_text("max_batch = 3\n")
    assert run(*words).code in (0, 6)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("thread = 2", "sets 'thread', which is no option of a session. Did you mean threads?"),
        ("steps = 2", "sets 'steps', which is no option of a session. There are backend, threads"),
        ("threads = 0", "threads"),
        ("threads = 'many'", "threads"),
        ("low_memory = 3", "low_memory"),
        ("threads = [", "is not TOML"),
        ("cpu_precision = 'fp64'", "cpu_precision"),
        ("provider_options = 3", "provider_options"),
    ],
)
def test_what_is_wrong_is_named(run: Run, config: Path, text: str, problem: str) -> None:
    config.write_text(text + "\n")
    code, said = session(run)
    assert code != 0
    assert problem in said
    assert str(config) in said
    assert "Traceback" not in said


def test_a_file_that_is_asked_for_must_be_there(run: Run, config: Path) -> None:
    code, said = session(run)
    assert code != 0
    assert str(config) in said


def test_a_variable_is_checked_as_a_flag_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXRT_THREADS", "0")
    code, said = session(run)
    assert code == 2
    assert "threads is 0" in said


def test_no_variable_has_two_meanings() -> None:
    taken: set[Any] = {"PIXRT_CONFIG", "PIXRT_MODELS"}
    assert not taken & {f"PIXRT_{name.upper()}" for name in option_fields(SessionOptions)}
