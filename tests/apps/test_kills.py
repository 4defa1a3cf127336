"""`pixrt edit` and `pixrt batch`, killed twenty times each: nothing lost, half written, or left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kills import finish, kills, remains
from pixrt.apps.journal import JOURNAL_NAME
from shapes import BLUE

pytestmark = pytest.mark.slow
QUICK = ("--steps", 1, "--seed", 1, "--max-batch", 2, "--threads", 1, "--backend", "ort-cpu")


def pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:02d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_edit(tmp_path: Path) -> None:
    """Old files are replaced: each is the old one or the whole new one, whenever the kill comes."""
    paths = pictures(tmp_path / "in", 12)
    words = ("edit", "-b", "shapes", *paths, BLUE, "--overwrite", *QUICK)
    whole_s = finish(*words, "-o", tmp_path / "whole")
    whole, output = contents(tmp_path / "whole"), tmp_path / "out"
    output.mkdir()
    for name in whole:
        (output / name).write_bytes(b"old")
    stopped = 0
    for _ in kills(whole_s, *words, "-o", output):
        found = contents(output)
        assert found.keys() == whole.keys()
        assert all(data in (b"old", whole[name]) for name, data in found.items())
        assert len(remains(output)) <= 2  # of the last kill
        stopped += b"old" in found.values()
        for name in list(whole)[:6]:
            (output / name).write_bytes(b"old")
    assert stopped
    finish(*words, "-o", output)
    assert contents(output) == whole
    assert {path.name for path in output.iterdir()} == whole.keys()


def test_batch(tmp_path: Path) -> None:
    """It goes on where it was; what was done stays done, and no line of its journal says what is not there."""
    pictures(tmp_path / "in", 24)
    words = ("batch", "-b", "shapes", tmp_path / "in", BLUE, *QUICK)
    whole_s = finish(*words, "-o", tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    before: dict[str, bytes] = {}
    output = tmp_path / "out-0"
    for number in kills(whole_s, *words, "-o", output, cwd=tmp_path):
        found = contents(output) if output.is_dir() else {}
        assert all(data == whole[name] for name, data in found.items())
        assert found.keys() >= before.keys()
        before = found
        if number % 5 == 4 and output.is_dir():  # another gallery, half of which is done
            for name in list(found)[::2]:
                (output / name).unlink()
                del before[name]
    finish(*words, "-o", output)
    assert contents(output) == whole
    assert not remains(output)
    rows = [json.loads(line) for line in (output / JOURNAL_NAME).read_text().splitlines()]
    assert {row["output"] for row in rows[1:]} == whole.keys()
    assert {row["state"] for row in rows[1:]} == {"done"}
