"""The mistakes of the first minutes: each gets the hint that helps, in one line. The table is that of docs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixrt import Editor
from pixrt.errors import OptionError, PixrtError
from pixrt.maths.solvers import scheduler_name
from pixrt.options.choices import SCHEDULERS
from pixrt.options.names import choose
from pixrt.options.tasks import EditOptions
from shapes import QUICK, SCENE, Run

PAGE = Path(__file__).parent.parent.parent / "docs" / "first-minutes.md"
# Typed, and said. A code span of two backticks may hold single ones.
ROWS = dict(re.findall(r"^\| `+ ?(.+?) ?`+ \| `+ ?(.+?) ?`+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
CALLS = [typed for typed in ROWS if typed.startswith("editor.")]

# Notes that come beside the line of a row: about the model, and that all was made.
BESIDE = ("demonstration model", " made in ", "was not taught")


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """What the rows name, beside where a command runs."""
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/photo.jpg"):
        Image.open(SCENE).convert("RGB").save(tmp_path / name)
    for name in ("notes.txt", "lora.safetensors", "checkpoint/model_index.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")


def test_the_table_is_whole() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(ROWS) == len(rows) >= 16


@pytest.mark.parametrize("typed", [typed for typed in ROWS if typed.startswith("pixrt ")])
def test_a_command(typed: str, run: Run) -> None:
    outcome = run(*shlex.split(typed)[1:])
    said = [line for line in outcome.err.splitlines() if not any(words in line for words in BESIDE)]
    assert [line.replace(", HEIF", "") for line in said] == [ROWS[typed]]  # with pillow-heif that is read too
    assert (outcome.code == 0) == said[0].startswith("note: ")


@pytest.mark.parametrize(
    "typed", [pytest.param(typed, marks=pytest.mark.torch) if "torch" in typed else typed for typed in CALLS]
)
def test_a_call(typed: str, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"editor": editor, **({"torch": pytest.importorskip("torch")} if "torch" in typed else {})}
    with pytest.raises(PixrtError) as raised:
        eval(typed, names)
    assert f"{type(raised.value).__name__}: {raised.value}" == ROWS[typed]


@pytest.mark.torch
def test_a_tensor_is_a_picture_and_a_mask(editor: Editor, scene: Image.Image) -> None:
    import torch

    array = np.asarray(scene)
    mask = np.arange(64 * 64).reshape(64, 64) % 64 < 32
    plain = editor.edit(array, "make the background blue", mask=mask, **QUICK)
    tensors = torch.from_numpy(array.copy()), torch.from_numpy(mask)
    taken = editor.edit(tensors[0], "make the background blue", mask=tensors[1], **QUICK)
    np.testing.assert_array_equal(np.asarray(taken.image), np.asarray(plain.image))
    with pytest.raises(PixrtError, match="does not become a NumPy array"):
        editor.edit(torch.zeros(64, 64, 3, device="meta"), "x", **QUICK)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("euler_a", "euler_ancestral"),
        ("Euler a", "euler_ancestral"),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("DPM++ 2M SDE", "dpmpp_2m_sde"),
        ("UniPC", "unipc"),
        ("PLMS", "pndm"),
    ],
)
def test_schedulers_by_other_names(said: str, name: str) -> None:
    assert EditOptions(scheduler=said).scheduler == name  # type: ignore[arg-type]  # the type holds pixrt's own names


@pytest.mark.parametrize(
    "kind", ["DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep"]
)
def test_the_classes_of_diffusers_are_names(kind: str) -> None:
    """As a checkpoint's scheduler_config.json is read."""
    assert choose(f"{kind}Scheduler", SCHEDULERS) == scheduler_name({"_class_name": f"{kind}Scheduler"})


def test_what_is_like_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match=r"Choose one of ddim, .* lcm\.$"):
        EditOptions(scheduler="turbo")  # type: ignore[arg-type]
