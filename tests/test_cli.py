"""The command line as a user meets it: exit codes, one-line errors, files that are whole or not there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixrt
from pixrt.cli import app, main
from pixrt.cli import edit as edit_module
from pixrt.errors import PixrtError

SCENE = Path(__file__).parent.parent / "examples" / "scene.png"
BLUE = "make the background blue"


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the entry point in a folder that holds `scene.png`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.png").write_bytes(SCENE.read_bytes())

    def call(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pixrt", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        code = exit_.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return call


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_edit(run: Run, tmp_path: Path) -> None:
    outcome = run("edit", "scene.png", BLUE, "-o", "out.png", "--seed", 7, "--steps", 3)
    assert outcome.code == 0
    assert outcome.out == "out.png  64 x 64  seed 7\n"
    assert "demonstration model" in outcome.err
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (64, 64)
    assert files(tmp_path) == {"scene.png", "out.png"}
    assert (tmp_path / "scene.png").read_bytes() == SCENE.read_bytes()


def test_several_pictures_into_a_folder(run: Run, tmp_path: Path) -> None:
    scene = Image.open(SCENE).convert("RGB")
    scene.save(tmp_path / "b.jpg")
    scene.resize((96, 64)).save(tmp_path / "c.webp", lossless=True)
    outcome = run("edit", "scene.png", "b.jpg", "c.webp", BLUE, "-o", "new/folder", "--steps", 2, "--json")
    assert outcome.code == 0
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert {line["output"] for line in lines} == {f"new/folder/{name}" for name in ("scene.png", "b.jpg", "c.webp")}
    assert {(line["width"], line["height"]) for line in lines} == {(64, 64), (96, 64)}
    for line in lines:
        assert line["times"]["denoise_ms"] > 0
        assert line["parameters"]["instruction"] == BLUE
        assert Path(tmp_path / line["output"]).is_file()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_from_repeats_an_edit(run: Run, tmp_path: Path, suffix: str) -> None:
    flags = ["--steps", 3, "--scheduler", "euler_ancestral", "--guidance-interval", 0, 0.7, "--negative-prompt", "冬"]
    assert run("edit", "scene.png", BLUE, "-o", f"one{suffix}", *flags).code == 0
    assert run("edit", "scene.png", "--from", f"one{suffix}", "-o", f"two{suffix}").code == 0
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    # A flag given now comes before the earlier one.
    outcome = run("edit", "scene.png", "--from", f"one{suffix}", "-o", "x.png", "--steps", 1, "--json")
    parameters = json.loads(outcome.out)["parameters"]
    assert (parameters["steps"], parameters["scheduler"]) == (1, "euler_ancestral")
    assert parameters["guidance_interval"] == [0.0, 0.7]


def test_from_another_checkpoint_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("edit", "scene.png", BLUE, "-o", "one.png", "--steps", 1).code == 0
    monkeypatch.setattr(edit_module, "read_parameters", lambda path: pixrt_parameters(tmp_path) | {"model_sha256": "0"})
    assert "another checkpoint" in run("edit", "scene.png", "--from", "one.png", "-o", "two.png", "--steps", 1).err


def pixrt_parameters(folder: Path) -> dict[str, Any]:
    from pixrt.codecs import read_parameters

    return read_parameters(folder / "one.png")


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    outcome = run("edit", "scene.png", BLUE, "-o", "not/yet", "--dry-run", "--json", "--seed", 1)
    assert outcome.code == 0
    facts = json.loads(outcome.out)
    assert (facts["network_calls"], facts["network_rows"], facts["working_size"]) == (20, 60, [64, 64])
    assert files(tmp_path) == {"scene.png"}


def test_other_commands(run: Run, tmp_path: Path) -> None:
    assert run("--version").out == f"pixrt {pixrt.__version__}\n"
    for words in ([], ["--help"], ["edit", "--help"]):
        outcome = run(*words)
        assert outcome.code == 0
        assert "Usage: pixrt" in outcome.out
    assert "demo" in run("models").out
    assert json.loads(run("models", "--json").out)["name"] == "demo"
    assert "sample  float32 [batch, 8, height, width]" in run("inspect", "demo").out
    assert json.loads(run("inspect", "demo", "--json").out)["unet_in_channels"] == 8
    assert "holds no parameters" in run("inspect", "scene.png").out
    run("edit", "scene.png", BLUE, "-o", "out.png", "--steps", 1, "--seed", 3)
    assert json.loads(run("inspect", "out.png", "--json").out)["parameters"]["seed"] == 3


def test_doctor(run: Run) -> None:
    outcome = run("doctor")
    assert outcome.code == 0
    assert "self-test: one step at 64 px on ort-cpu" in outcome.out
    assert "backend ort-cuda" in outcome.out


def test_every_option_has_a_flag(run: Run) -> None:
    import dataclasses

    text = run("edit", "--help").out
    for field in dataclasses.fields(pixrt.EditOptions):
        assert f"--{field.name.replace('_', '-')}" in text


# Words after `edit`, the exit code, and what the message must name. BAD makes a file first.
WRONG: dict[str, tuple[list[object], int, str]] = {
    "no arguments": ([], 2, "Missing argument"),
    "no output": (["scene.png", BLUE], 2, "--output"),
    "no instruction": (["scene.png", "-o", "o.png"], 2, "alone is not enough"),
    "picture for an instruction": (["scene.png", "b.png", "-o", "o"], 2, "must be the instruction"),
    "unknown flag": (["scene.png", BLUE, "-o", "o.png", "--strength", 1], 2, "--strength"),
    "steps 0": (["scene.png", BLUE, "-o", "o.png", "--steps", 0], 2, "from 1 to 1000"),
    "steps 1000": (["scene.png", BLUE, "-o", "o.png", "--steps", 1000], 2, "Use fewer steps"),
    "steps x": (["scene.png", BLUE, "-o", "o.png", "--steps", "x"], 2, "integer"),
    "steps 400 digits": (["scene.png", BLUE, "-o", "o.png", "--steps", "9" * 400], 2, "from 1 to 1000"),
    "scale nan": (["scene.png", BLUE, "-o", "o.png", "--guidance-scale", "nan"], 2, "guidance_scale is nan"),
    "scale inf": (
        ["scene.png", BLUE, "-o", "o.png", "--image-guidance-scale", "inf"],
        2,
        "image_guidance_scale is inf",
    ),
    "scale negative": (["scene.png", BLUE, "-o", "o.png", "--guidance-scale", -1], 2, "from 0 to 100"),
    "scheduler": (["scene.png", BLUE, "-o", "o.png", "--scheduler", "heun"], 2, "Choose one of ddim"),
    "eta": (["scene.png", BLUE, "-o", "o.png", "--scheduler", "euler", "--eta", 0.5], 2, "has no eta"),
    "lcm steps": (["scene.png", BLUE, "-o", "o.png", "--scheduler", "lcm", "--steps", 60], 2, "at most 50"),
    "interval": (["scene.png", BLUE, "-o", "o.png", "--guidance-interval", 0.8, 0.2], 2, "0 <= first <= second <= 1"),
    "interval of one": (["scene.png", BLUE, "-o", "o.png", "--guidance-interval", 0.8], 2, "guidance-interval"),
    "seed": (["scene.png", BLUE, "-o", "o.png", "--seed", -1], 2, "seed is -1"),
    "resize": (["scene.png", BLUE, "-o", "o.png", "--resize", "stretch"], 2, "exact, fit, floor8"),
    "resolution": (["scene.png", BLUE, "-o", "o.png", "--resolution", 4], 2, "from 16 to 8192"),
    "resolution large": (["scene.png", BLUE, "-o", "o.png", "--resolution", 8192], 3, "megapixels"),
    "floor8 resolution": (["scene.png", BLUE, "-o", "o.png", "--resize", "floor8", "--resolution", 64], 2, "floor8"),
    "quality": (["scene.png", BLUE, "-o", "o.jpg", "--quality", 0], 2, "--quality"),
    "threads": (["scene.png", BLUE, "-o", "o.png", "--threads", 0], 2, "threads is 0"),
    "max batch": (["scene.png", BLUE, "-o", "o.png", "--max-batch", 0], 2, "max_batch is 0"),
    "backend": (["scene.png", BLUE, "-o", "o.png", "--backend", "tpu"], 2, "Choose one of auto"),
    "backend not here": (["scene.png", BLUE, "-o", "o.png", "--backend", "ort-cuda"], 6, "pip install"),
    "text too long": (["scene.png", "x" * 70_000, "-o", "o.png"], 2, "more than 60000"),
    "text not unicode": (["scene.png", "a\udcff", "-o", "o.png"], 2, "not valid Unicode"),
    "missing picture": (["nope.png", BLUE, "-o", "o.png"], 3, "there is no file nope.png"),
    "second picture missing": (["scene.png", "nope.png", BLUE, "-o", "o"], 3, "there is no file nope.png"),
    "folder for a picture": ([".", BLUE, "-o", "o.png"], 3, "is a folder"),
    "empty picture": (["bad.png", BLUE, "-o", "o.png"], 3, "not a picture"),
    "bundle missing": (["scene.png", BLUE, "-o", "o.png", "-b", "nowhere"], 4, "pixrt models"),
    "bundle is a file": (["scene.png", BLUE, "-o", "o.png", "-b", "scene.png"], 4, "is a file"),
    "bundle is a folder": (["scene.png", BLUE, "-o", "o.png", "-b", "."], 4, "manifest.json"),
    "bundle name too long": (["scene.png", BLUE, "-o", "o.png", "-b", "n" * 300], 4, "bundle"),
    "output is the input": (["scene.png", BLUE, "-o", "scene.png"], 7, "inputs are never overwritten"),
    "output is the input by a link": (["link.png", BLUE, "-o", "scene.png"], 7, "inputs are never overwritten"),
    "output is the input by a path": (["scene.png", BLUE, "-o", "./x/../scene.png"], 7, ""),
    "output folder is the inputs'": (["scene.png", BLUE, "-o", "."], 7, "inputs are never overwritten"),
    "output suffix": (["scene.png", BLUE, "-o", "o.gif"], 7, ".gif"),
    "output in no folder": (["scene.png", BLUE, "-o", "no/o.png"], 7, "does not exist"),
    "output under a file": (["scene.png", BLUE, "-o", "scene.png/o"], 7, "scene.png"),
    "output name too long": (["scene.png", BLUE, "-o", "n" * 300 + ".png"], 7, "cannot write"),
    "output is a folder": (["scene.png", BLUE, "-o", "target"], 7, "is a folder"),
    "one output for two": (["scene.png", "scene.png", BLUE, "-o", "o.png"], 7, "Give a folder"),
    "two of one name": (["scene.png", "sub/scene.png", BLUE, "-o", "o"], 7, "would both be written"),
    "links in a circle": (["scene.png", BLUE, "-o", "circle/o.png"], 7, "circle"),
    "from a plain picture": (["scene.png", "--from", "scene.png", "-o", "o.png"], 3, "holds no parameters"),
    "from a missing picture": (["scene.png", "--from", "nope.png", "-o", "o.png"], 3, "there is no file"),
    "from a cut picture": (["scene.png", "--from", "cut.png", "-o", "o.png"], 3, "cut.png"),
    "from wrong parameters": (["scene.png", "--from", "wrong.png", "-o", "o.png"], 2, "steps is 0"),
    "from no instruction": (["scene.png", "--from", "silent.png", "-o", "o.png"], 3, "without an instruction"),
    "from onto itself": (["scene.png", "--from", "earlier.png", "-o", "earlier.png"], 7, "never overwritten"),
}


def lay_out(folder: Path) -> None:
    """The files that the wrong commands name."""
    from PIL.PngImagePlugin import PngInfo

    def with_parameters(name: str, **parameters: object) -> None:
        info = PngInfo()
        info.add_itxt("pixrt", json.dumps({"pixrt": "0", **parameters}))
        Image.new("RGB", (64, 64)).save(folder / name, pnginfo=info)

    (folder / "bad.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(SCENE.read_bytes()[:500])
    (folder / "link.png").symlink_to("scene.png")
    (folder / "circle").symlink_to("circle")
    (folder / "sub").mkdir()
    (folder / "sub" / "scene.png").write_bytes(SCENE.read_bytes())
    (folder / "target" / "scene.png").mkdir(parents=True)
    with_parameters("wrong.png", instruction=BLUE, steps=0)
    with_parameters("silent.png", steps=2)
    with_parameters("earlier.png", instruction=BLUE, steps=2)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_commands(name: str, run: Run, tmp_path: Path) -> None:
    lay_out(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words, code, message = WRONG[name]
    outcome = run("edit", *words)
    assert (outcome.code, outcome.out) == (code, "")
    errors = [line for line in outcome.err.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "o").exists()


def test_a_later_picture_that_fails_leaves_the_earlier_results(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(SCENE.read_bytes()[:-200])
    outcome = run("edit", "scene.png", "cut.png", BLUE, "-o", "out", "--steps", 1, "--max-batch", 1)
    assert outcome.code == 3
    assert "cut.png" in outcome.err
    assert files(tmp_path / "out") == {"scene.png"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = run("edit", "scene.png", BLUE, "-o", "locked/o.png")
    assert (outcome.code, "not writable" in outcome.err) == (7, True)


def test_names_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    name = "a :heart: [red]b\x1b[31m.png"
    (tmp_path / name).write_bytes(SCENE.read_bytes())
    outcome = run("edit", name, "x :heart: [bold]", "-o", "out", "--steps", 1, "--json")
    facts = json.loads(outcome.out)
    assert (facts["input"], facts["parameters"]["instruction"]) == (name, "x :heart: [bold]")
    assert "\x1b" not in outcome.out
    outcome = run("edit", name, "x", "-o", "out", "--steps", 1)
    assert outcome.out.startswith(r"out/a :heart: [red]b\x1b[31m.png  64 x 64")


def test_truncation_is_said(run: Run) -> None:
    err = run("edit", "scene.png", "red " * 80, "-o", "o.png", "--steps", 1, "--negative-prompt", "blue " * 90).err
    assert "the last 5 tokens of the instruction" in err
    assert "the last 15 tokens of the negative prompt" in err


def start(folder: Path, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from pixrt.cli import main; main()", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_edit_leaves_no_file(kind: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path, "edit", str(SCENE), BLUE, "-o", "o.png", "--steps", "900")
    time.sleep(2.5)
    process.send_signal(kind)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"cancelled" in err
    assert b"Traceback" not in err
    assert not files(tmp_path)


def test_a_reader_that_leaves_does_not_stop_the_work(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(SCENE.read_bytes())
    process = start(
        tmp_path, "edit", "a.png", "b.png", "c.png", BLUE, "-o", "out", "--steps", "1", "--max-batch", "1", "--json"
    )
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert (process.returncode, b"Traceback" in err) == (0, False)
    assert files(tmp_path / "out") == {"a.png", "b.png", "c.png"}


def test_a_narrow_encoding_spells_out(tmp_path: Path) -> None:
    (tmp_path / "é冬.png").write_bytes(SCENE.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    process = start(tmp_path, "edit", "é冬.png", BLUE, "-o", "out", "--steps", "1", "-q", env=environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith("out/é\\u51ac.png".encode("latin-1"))


def test_completion_knows_the_schedulers(tmp_path: Path) -> None:
    environment = os.environ | {
        "_PIXRT_COMPLETE": "complete_bash",
        "COMP_WORDS": "pixrt edit --scheduler eul",
        "COMP_CWORD": "3",
    }
    command = [sys.executable, "-c", "from pixrt.cli.app import app; app(prog_name='pixrt')"]
    out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["euler", "euler_ancestral"]


def test_the_exit_codes_are_documented() -> None:
    import pixrt.cli

    def walk(kind: type[PixrtError]) -> list[type[PixrtError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in walk(child))]

    tree = sys.modules["pixrt.errors"].__doc__ or ""
    epilog = str(app.app.info.epilog)
    for kind in walk(PixrtError):
        assert f"{kind.__name__} " in tree
        line = next(line for line in tree.splitlines() if f" {kind.__name__} " in line)
        assert f"exit {kind.exit_code:>2}" in line
        assert f"{kind.exit_code} " in epilog
        assert f"{kind.exit_code} " in (pixrt.cli.__doc__ or "")
        assert str(kind("a\n problem", remedy="Do\n this")) == "a problem. Do this."


def test_a_defect_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_module, "plan_outputs", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("edit", "scene.png", BLUE, "-o", "o.png")


def test_pixels_of_a_jpeg_are_those_of_the_edit(run: Run, tmp_path: Path) -> None:
    run("edit", "scene.png", BLUE, "-o", "o.png", "--steps", 3, "--seed", 1)
    run("edit", "scene.png", BLUE, "-o", "o.jpg", "--steps", 3, "--seed", 1)
    exact, lossy = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("o.png", "o.jpg"))
    assert np.abs(exact - lossy).mean() < 2
