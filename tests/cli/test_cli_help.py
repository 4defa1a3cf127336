"""What `--help` says: panels, whole names and sentences, the bundle's defaults, an example each; and the schemas."""

import dataclasses
import json
import re

import pytest
import typer
import typer.main
from rich.text import Text

from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.cli import app
from pixrt.options.fields import option_fields
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import TASK_OPTIONS
from shapes import Run


def commands() -> dict[str, typer.core.TyperCommand]:
    """Every command by what is typed for it."""

    def walk(group: typer.core.TyperGroup, words: str) -> dict[str, typer.core.TyperCommand]:
        found = {}
        for name, command in group.commands.items():
            if isinstance(command, typer.core.TyperGroup):
                found |= walk(command, f"{words}{name} ")
            else:
                assert isinstance(command, typer.core.TyperCommand)
                found[f"{words}{name}"] = command
        return found

    group = typer.main.get_command(app.app)
    assert isinstance(group, typer.core.TyperGroup)
    return walk(group, "")


COMMANDS = commands()


def words_of(text: str) -> str:
    """The words of a help, without frames; what is folded is joined, and spaces do not count."""
    return "".join(re.sub(r"[│╭╮╰╯─]", "", text).split())


def columns_of(text: str) -> str:
    """The last column of every table: what is said of options and commands, in order, without spaces."""
    lines = [line.strip("│ ") for line in text.splitlines() if line.startswith("│")]
    return "".join("".join(re.split(r" {2,}", line)[-1].split()) for line in lines)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = run(*name.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert "…" not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= width
    said = columns_of(outcome.out)
    for parameter in COMMANDS[name].params:
        for flag in (*parameter.opts, *parameter.secondary_opts):
            assert flag in outcome.out or not flag.startswith("-")
        # Brackets too: they are no markup.
        help_text = Text.from_markup(str(getattr(parameter, "help", None) or "")).plain
        assert "".join(help_text.split()) in said
    assert "Example:pixrt" + "".join(name.split()) in words_of(outcome.out)


def test_the_list_of_commands_is_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ((), ("data",), ("eval",), ("train",)):
        outcome = run(*words, "--help")
        said = words_of(outcome.out)
        assert "…" not in outcome.out
        assert "..." not in outcome.out.replace("[ARGS]...", "")
        prefix = " ".join([*words, ""]) if words else ""
        for name, command in COMMANDS.items():
            if name.startswith(prefix) and " " not in name.removeprefix(prefix):
                assert "".join((command.help or "").split("\n\n")[0].split()) in said


def test_panels(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    titles = {
        name: re.findall(r"╭─ (.+?) ─", run(*name.split(), "--help").out) for name in ("edit", "generate", "build")
    }
    assert titles == {
        "edit": [
            "Arguments",
            "Options",
            "Edit",
            "Less work",
            "Mask",
            "Speed",
            "ONNX Runtime",
            "TensorRT",
            "Output",
            "Marking",
        ],
        "generate": [
            "Arguments",
            "Options",
            "Generate",
            "Less work",
            "Speed",
            "ONNX Runtime",
            "TensorRT",
            "Output",
            "Marking",
        ],
        "build": ["Arguments", "Options", "Engine"],
    }


def test_the_real_defaults_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no line is broken
    manifest = open_bundle(DEFAULT_BUNDLE, verify=False).manifest
    text = run("edit", "--help").out
    for value in (manifest.defaults.steps, manifest.defaults.scheduler, manifest.native_resolution):
        assert f"[default: the bundle's; {DEFAULT_BUNDLE}'s is {value}]" in text
    assert "[default: 4]" in text
    assert "[default: 8]" in run("batch", "--help").out  # max_batch of a gallery
    assert "[default: 7.5]" in run("eval", "clip", "--help").out


def test_help_without_the_built_in_bundle(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from pixrt.cli import parameters

    parameters._built_in.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(parameters, "BUILT_IN", tmp_path)
            assert parameters._built_in() is None
            flags = parameters._flags(TASK_OPTIONS["edit"])
    finally:
        parameters._built_in.cache_clear()
    assert [flag.name for flag in flags] == list(option_fields(TASK_OPTIONS["edit"]))


@pytest.mark.parametrize("name", [*TASK_OPTIONS, "session"])
def test_schema(run: Run, name: str) -> None:
    outcome = run("schema", name)
    schema = json.loads(outcome.out)
    kind = {**TASK_OPTIONS, "session": SessionOptions}[name]
    assert (schema["title"], [*schema["properties"]]) == (name, [field.name for field in dataclasses.fields(kind)])
    assert json.loads(run("schema").out)[name] == schema
    if name != "session":
        assert schema["properties"]["steps"]["default"] == open_bundle(DEFAULT_BUNDLE).manifest.defaults.steps


def test_wrong_schemas(run: Run) -> None:
    outcome = run("schema", "sweep")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Choose one of edit, generate, img2img, inpaint, style, session" in outcome.err
    assert run("schema", "edit", "--bundle", "nowhere").code == 4
