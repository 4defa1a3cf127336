"""Standard output and error that are closed, full or no longer read, pictures through pipes, and where files may go."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixrt.pictures.codecs import read_parameters
from shapes import BLUE, SCENE, Run, files

EDIT = ("edit", SCENE, BLUE, "--steps", 1)


def pixrt(folder: Path, *words: object, shell: str = "", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command with the model of drawn scenes; `shell` are redirections, as a shell understands them."""
    command = ["bash", "-c", f'"$@" {shell}', "bash", sys.executable, "-m", "pixrt", *map(str, words), "-b", "shapes"]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=120, **options)


def gallery(folder: Path, count: int) -> None:
    (folder / "in").mkdir()
    for number in range(count):
        (folder / "in" / f"{number}.png").write_bytes(SCENE.read_bytes())
        (folder / "in" / f"broken-{number}.png").write_bytes(b"\x89PNG")


@pytest.mark.parametrize(
    "shell", ["2> >(head -1)", "2>&-", "2>/dev/full", ">&- 2>&-", "2> >(sleep 5)", "2> >(exec sleep 5 >/dev/null)"]
)
def test_a_standard_error_that_takes_nothing_stops_no_work(shell: str, tmp_path: Path) -> None:
    """Each of the broken ones is told of; the others are all made."""
    gallery(tmp_path, 5)
    words = ("batch", "in", BLUE, "-o", "out", "--steps", 1, "--max-batch", 1)
    done = pixrt(tmp_path, *words, shell=shell)
    assert done.returncode == 1  # some were broken
    assert {name for name in files(tmp_path / "out") if name.endswith(".png")} == {f"{n}.png" for n in range(5)}
    assert b"Traceback" not in done.stdout + done.stderr


def test_a_pipe_of_which_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    """What a parent that forgets about it does to its child: 64 KiB, and then every write waits."""
    rows = "".join(f"missing-{number}-{'x' * 200}.png,{BLUE}\n" for number in range(600))
    (tmp_path / "rows.csv").write_text(f"image,instruction\n{rows}{SCENE},{BLUE}\n")
    command = [sys.executable, "-m", "pixrt", "batch", "-b", "shapes", "rows.csv", "-o", "out", "--steps", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.wait(timeout=120) == 1
    assert (tmp_path / "out" / SCENE.name).is_file()


@pytest.mark.parametrize(("shell", "code"), [(">&-", 0), (">/dev/full", 7)])
def test_a_standard_output_that_takes_nothing_stops_no_work(shell: str, code: int, tmp_path: Path) -> None:
    """A full disk is told of in the end: somebody wanted those lines."""
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(SCENE.read_bytes())
    done = pixrt(tmp_path, "edit", "a.png", "b.png", "c.png", BLUE, "-o", "out", "--steps", 1, "--json", shell=shell)
    assert done.returncode == code, done.stderr
    assert files(tmp_path / "out") == {"a.png", "b.png", "c.png"}
    assert (b"cannot print" in done.stderr) == (code == 7)


def test_a_picture_through_pipes(tmp_path: Path) -> None:
    done = pixrt(tmp_path, "edit", "-", BLUE, "-o", "-", "--steps", 1, "--seed", 3, "--json", input=SCENE.read_bytes())
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.format == "PNG"
    assert read_parameters(done.stdout)["seed"] == 3
    assert b'"seed": 3' in done.stderr  # what is printed otherwise
    assert pixrt(tmp_path, *EDIT, "--seed", 3, "-o", "o.png").returncode == 0
    assert (tmp_path / "o.png").read_bytes() == done.stdout


def test_standard_input_as_picture_and_mask(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(picture, "PNG")
    words = ("edit", "-", BLUE, "--mask", "-", "-o", "out", "--steps", 1)
    assert pixrt(tmp_path, *words, input=picture.getvalue()).returncode == 0
    assert files(tmp_path / "out") == {"stdin.png"}
    words = ("sweep", "-", BLUE, "--seeds", 2, "-o", "swept", "--steps", 1)
    assert pixrt(tmp_path, *words, input=picture.getvalue()).returncode == 0
    assert "sheet.png" in files(tmp_path / "swept")


@pytest.mark.parametrize(
    ("words", "shell", "code", "message"),
    [
        (("edit", "-", BLUE, "-o", "o.png"), "< /dev/null", 3, "standard input is empty"),
        (("edit", "-", BLUE, "-o", "o.png"), "<<< hello", 3, "is not a picture"),
        (("edit", "a.png", "b.png", BLUE, "-o", "-"), "| cat; exit ${PIPESTATUS[0]}", 7, "cannot all go to standard"),
        ((*EDIT, "-o", "-"), ">&-", 7, "standard output is closed"),
        ((*EDIT, "-o", "-"), "> /dev/full", 7, "No space left"),
    ],
)
def test_pipes_that_cannot_be_used(words: Any, shell: str, code: int, message: str, tmp_path: Path) -> None:
    done = pixrt(tmp_path, *words, shell=shell)
    assert done.returncode == code, done.stderr
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not files(tmp_path)


class TestTargets:
    """One rule: links followed, regular files only, permissions kept, nothing replaced that was not asked for."""

    def test_folders_above_it_are_made(self, run: Run, tmp_path: Path) -> None:
        assert run("edit", "scene.png", BLUE, "-o", "a/b/o.png", "--steps", 1).code == 0
        assert (tmp_path / "a" / "b" / "o.png").is_file()

    @pytest.mark.parametrize(
        "words",
        [
            ("edit", "scene.png", BLUE, "-o", "there.png"),
            ("edit", "scene.png", BLUE, "-o", "link.png"),
            ("generate", BLUE, "-o", "there.png"),
            ("style", "scene.png", "scene.png", "-o", "there.png"),
            ("edit", "scene.png", BLUE, "-o", "folder"),
            ("generate", BLUE, BLUE, "-o", "folder"),
            ("sweep", "scene.png", BLUE, "--seeds", "2", "-o", "folder"),
            ("sweep", "scene.png", BLUE, "-o", "new", "--json", "there.json"),
            ("data", "sheet", "-o", "there.png", "--count", "1"),
        ],
    )
    def test_what_exists_is_refused_and_replaced_when_asked(self, run: Run, tmp_path: Path, words: Any) -> None:
        (tmp_path / "folder").mkdir()
        names = ["there.png", "there.json", "folder/scene.png", "folder/sheet.png", "folder/0.png", "folder/1.png"]
        for name in names:
            (tmp_path / name).write_text("mine")
            (tmp_path / name).chmod(0o640)
        (tmp_path / "link.png").symlink_to("there.png")
        quick = () if words[0] == "data" else ("--steps", 2, "--backend", "null")
        outcome = run(*words, *quick)
        assert (outcome.code, outcome.out) == (7, "")
        assert "exists already" in outcome.err
        assert "--overwrite" in outcome.err
        assert {(tmp_path / name).read_text() for name in names} == {"mine"}
        assert not (tmp_path / "new").exists()
        assert run(*words, *quick, "--overwrite").code == 0
        changed = [name for name in names if (tmp_path / name).read_bytes() != b"mine"]
        assert changed
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o640}
        assert (tmp_path / "link.png").is_symlink()

    def test_a_link_to_nowhere_stays_and_its_end_is_made(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "link.png").symlink_to("elsewhere/o.png")
        assert run("edit", "scene.png", BLUE, "-o", "link.png", "--steps", 1).code == 0
        assert (tmp_path / "link.png").is_symlink()
        assert files(tmp_path / "elsewhere") == {"o.png"}

    def test_a_pipe_is_no_target(self, run: Run, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        outcome = run("edit", "scene.png", BLUE, "-o", "pipe.png", "--steps", 1, "--overwrite")
        assert outcome.code == 7
        assert "not a file but a pipe" in outcome.err
