"""Wrong commands: one line, the documented exit code, and no file."""

import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from pixrt.cli import app
from pixrt.cli import edit as edit_module
from pixrt.errors import PixrtError
from shapes import BLUE, SCENE, Run, files

# Words after `edit`, the exit code, and what the message must name. BAD makes a file first.
WRONG: dict[str, tuple[list[object], int, str]] = {
    "no arguments": ([], 2, "Missing argument"),
    "no output": (["scene.png", BLUE], 2, "--output"),
    "no instruction": (["scene.png", "-o", "o.png"], 2, "alone is not enough"),
    "picture for an instruction": (["scene.png", "b.png", "-o", "o"], 2, "must be the text"),
    "unknown flag": (["scene.png", BLUE, "-o", "o.png", "--strength", 1], 2, "--strength"),
    "steps 0": (["scene.png", BLUE, "-o", "o.png", "--steps", 0], 2, "from 1 to 1000"),
    "steps 51 of LCM": (["scene.png", BLUE, "-o", "o.png", "--steps", 51, "--scheduler", "lcm"], 2, "at most 50 steps"),
    "steps x": (
        ["scene.png", BLUE, "-o", "o.png", "--steps", "x"],
        2,
        "steps is 'x', which is not a whole number. It must be from 1 to 1000",
    ),
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
    "tile": (["scene.png", BLUE, "-o", "o.png", "--tile", "wide"], 2, "tile is 'wide', which is not a whole number"),
    "provider option": (["scene.png", BLUE, "-o", "o.png", "--provider-option", "device_id"], 2, "as NAME=VALUE"),
    "max batch": (["scene.png", BLUE, "-o", "o.png", "--max-batch", 0], 2, "max_batch is 0"),
    "backend": (["scene.png", BLUE, "-o", "o.png", "--backend", "tpu"], 2, "Choose one of auto"),
    "backend not here": (["scene.png", BLUE, "-o", "o.png", "--backend", "ort-cuda"], 6, "pip install"),
    "text too long": (["scene.png", "x" * 70_000, "-o", "o.png"], 2, "more than 60000"),
    "text not unicode": (["scene.png", "a\udcff", "-o", "o.png"], 2, "not valid Unicode"),
    "missing picture": (["nope.png", BLUE, "-o", "o.png"], 3, "there is no file nope.png"),
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
    "output exists": (["scene.png", BLUE, "-o", "link.png"], 7, ""),
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


def _broken(folder: Path, kind: str) -> str:
    """A picture of the size of the others that cannot be read: by its header, its pixels, or at all."""
    whole = SCENE.read_bytes()
    contents = {"cut.png": whole[: len(whole) // 2], "no.png": b"not a picture", "empty.png": b""}
    if kind in contents:
        (folder / kind).write_bytes(contents[kind])
    return kind


@pytest.mark.parametrize("kind", ["cut.png", "no.png", "empty.png", "missing.png"])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_picture_does_not_take_others_with_it(run: Run, tmp_path: Path, kind: str, as_json: bool) -> None:
    """Both good ones are written, and are what they are without it; the end is the broken one's."""
    broken = _broken(tmp_path, kind)
    (tmp_path / "good.png").write_bytes(SCENE.with_name("scene-green.png").read_bytes())
    common = [BLUE, "--steps", 1, "--seed", 1, *(["--json"] if as_json else [])]
    outcome = run("edit", "scene.png", broken, "good.png", *common, "-o", "out")
    assert outcome.code == 3
    assert files(tmp_path / "out") == {"scene.png", "good.png"}
    assert broken in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: 1 of the pictures failed")
    assert run("edit", "scene.png", "good.png", *common, "-o", "alone").code == 0
    for name in ("scene.png", "good.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    if as_json:
        rows = [json.loads(line) for line in outcome.out.splitlines()]
        assert sorted(row["input"] for row in rows) == sorted(["scene.png", broken, "good.png"])
        assert [row["input"] for row in rows if "error" in row] == [broken]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = run("edit", "scene.png", BLUE, "-o", "locked/o.png")
    assert (outcome.code, "not writable" in outcome.err) == (7, True)


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


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("export checkpoint -o bundle", "export"),
        ("train edit -o out", "train"),
        ("eval world", "train"),
        ("eval text-to-image", "train"),
        ("eval clip shapes --clip c --data d --preprocessing correct", "train"),
    ],
)
def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, words: str, extra: str) -> None:
    monkeypatch.setattr("pixrt.cli.extras.find_spec", lambda name: None)
    outcome = run(*words.split())
    assert outcome.code == 10
    assert f"pip install 'pixrt[{extra}]'" in outcome.err


def test_a_defect_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_module, "plan_outputs", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("edit", "scene.png", BLUE, "-o", "o.png")
