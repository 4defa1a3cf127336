"""Galleries: batches of one size, what is broken, what is done already, and results that do not depend on any of it."""

import json
import shutil
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixrt import Editor, OutputError
from pixrt.apps.entries import read_entries
from pixrt.apps.gallery import Gallery, Outcome
from pixrt.apps.journal import JOURNAL_NAME, open_journal
from pixrt.core.pool import HostPool
from pixrt.editor.device import Device
from pixrt.editor.result import EditResult
from pixrt.editor.run import Run
from pixrt.editor.runner import Runner
from pixrt.editor.stages import Making, finish
from pixrt.errors import BackendError, PixrtError
from pixrt.tasks.requests import Request
from shapes import BLUE

SIZES = ((64, 64), (64, 64), (96, 64), (48, 64))
JOB = {"options": {"seed": 1}}
PARAMETERS = {"steps": 1, "seed": 1}


@pytest.fixture(scope="module")
def null() -> Iterator[Editor]:
    with Editor("shapes", backend="null", max_batch=4) as editor:
        yield editor


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures of three sizes in two folders, a broken one and one cut short among them."""
    folder = tmp_path / "pictures"
    for number in range(12):
        path = folder / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = np.random.default_rng(number).integers(0, 256, (*SIZES[number % 4][::-1], 3), np.uint8)
        Image.fromarray(shade).save(path)
    (folder / "a" / "04.png").write_bytes(b"not a picture")
    whole = (folder / "b" / "07.png").read_bytes()
    (folder / "b" / "07.png").write_bytes(whole[: len(whole) // 2])
    return folder


def run_gallery(runner: Runner, pictures: Path, output: Path, **more: Any) -> list[Outcome]:
    with open_journal(output, JOB) as journal:
        gallery = Gallery(runner, output, journal, max_batch=4, **more)
        return list(gallery.run(read_entries([str(pictures)], BLUE, PARAMETERS, output)))


def test_all_that_can_be_edited_is_and_the_rest_is_told(null: Editor, pictures: Path, tmp_path: Path) -> None:
    outcomes = run_gallery(null, pictures, tmp_path / "out")
    failed = {outcome.entry.path.name: str(outcome.error) for outcome in outcomes if outcome.state == "failed"}
    assert failed.keys() == {"04.png", "07.png"}
    assert "cannot be decoded" in failed["07.png"]
    assert len(outcomes) == 12
    assert len(list((tmp_path / "out").rglob("*.png"))) == 10
    rows = [json.loads(line) for line in (tmp_path / "out" / JOURNAL_NAME).read_text().splitlines()]
    assert rows[0]["job"] == JOB
    assert [row["state"] for row in rows[1:]].count("done") == 10


def test_pictures_of_one_size_follow_each_other(null: Editor, pictures: Path, tmp_path: Path, spy: list[Any]) -> None:
    run_gallery(null, pictures, tmp_path / "out")
    assert {size: spy.count(size) for size in spy} == {(64, 64): 5, (64, 44): 3, (48, 64): 2}
    assert len(list(groupby(spy))) == 4  # four of a size are one batch; what is left comes last


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The working sizes of the pictures that are made, in order."""
    seen: list[Any] = []
    original = Run.add

    def counting(self: Run, request: Any) -> None:
        seen.append(request.geometry.padded)
        original(self, request)

    monkeypatch.setattr(Run, "add", counting)
    return seen


def test_what_is_done_is_left_alone(null: Editor, pictures: Path, tmp_path: Path, spy: list[Any]) -> None:
    output = tmp_path / "out"
    run_gallery(null, pictures, output)
    (output / "a" / "02.png").unlink()  # its line stays
    Image.new("RGB", (64, 64)).save(pictures / "b" / "05.png")  # another picture now
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    spy.clear()
    outcomes = run_gallery(null, pictures, output)
    assert len(spy) == 2
    assert sum(outcome.skipped for outcome in outcomes) == 10
    touched = {path.name for path, was in before.items() if path.stat().st_mtime_ns != was}
    assert touched == {"05.png"}


def test_what_failed_is_tried_again_when_asked(null: Editor, pictures: Path, tmp_path: Path) -> None:
    run_gallery(null, pictures, tmp_path / "out")
    again = [outcome for outcome in run_gallery(null, pictures, tmp_path / "out", retry_failed=True) if outcome.error]
    assert {outcome.entry.path.name for outcome in again} == {"04.png", "07.png"}
    Image.new("RGB", (64, 64)).save(pictures / "a" / "04.png")
    states = {o.entry.path.name: o.state for o in run_gallery(null, pictures, tmp_path / "out", retry_failed=True)}
    assert (states["04.png"], states["07.png"]) == ("done", "failed")


def test_one_picture_that_fails_does_not_take_others_with_it(
    null: Editor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(making: Making, *rest: Any) -> Any:
        if making.request.job.image.name == "08.png":  # type: ignore[union-attr]
            raise PixrtError("the decoded picture is not finite", remedy="None")
        return finish(making, *rest)

    monkeypatch.setattr("pixrt.editor.device.finish", failing)
    failed = {o.entry.path.name for o in run_gallery(null, pictures, tmp_path / "out") if o.state == "failed"}
    assert failed == {"04.png", "07.png", "08.png"}


def test_a_device_that_is_lost_ends_the_run(
    null: Editor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: HostPool, slots: Any = None) -> Any:
        raise BackendError("the device is lost", remedy="None")

    monkeypatch.setattr(HostPool, "step", lost)
    with pytest.raises(BackendError, match="lost"):
        run_gallery(null, pictures, tmp_path / "out")


def test_pictures_of_other_steps_advance_together(
    null: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that asks for other steps, solvers and scales: one pool, in which a place does not stay empty."""
    rows = []
    for number in range(8):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(
            {"image": f"{number}.png", "steps": 2 + 3 * (number % 2), "scheduler": ("ddim", "unipc")[number % 2]}
        )
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    steps: list[int] = []
    original = HostPool.step

    def counting(self: HostPool, slots: Any = None) -> Any:
        steps.append(sum(track is not None for track in self._occupancy.tracks))
        return original(self, slots)

    monkeypatch.setattr(HostPool, "step", counting)
    assert len(run_gallery(null, tmp_path / "jobs.jsonl", tmp_path / "out")) == 8
    # The last one begins when the first long one ends, at the fifth step.
    assert (sum(steps), max(steps), len(steps)) == (4 * 2 + 4 * 5, 4, 5 + 5)


def test_a_full_disk_ends_the_run(
    null: Editor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, **more: Any) -> None:
        raise OutputError("the disk is full", remedy="None")

    monkeypatch.setattr("pixrt.apps.gallery.atomic_write", full)
    with pytest.raises(OutputError, match="full"):
        run_gallery(null, pictures, tmp_path / "out")


def test_few_are_held_whatever_the_sizes(null: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that fill batches and such that never do: never more than a few batches between decoding and writing."""
    folder, held, most = tmp_path / "many", 0, 0
    folder.mkdir()
    for number in range(120):
        width = 64 if number % 2 else 64 + 4 * (number % 40)
        Image.new("RGB", (width, 64)).save(folder / f"{number}.png", compress_level=1)
    prepare, write, lock = Gallery._prepare, Gallery._write, threading.Lock()

    def preparing(self: Any, waiting: Any) -> Any:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return prepare(self, waiting)

    def writing(self: Any, *given: Any) -> Any:
        nonlocal held
        written = write(self, *given)
        with lock:
            held -= 1
        return written

    monkeypatch.setattr(Gallery, "_prepare", preparing)
    monkeypatch.setattr(Gallery, "_write", writing)
    assert all(outcome.state == "done" for outcome in run_gallery(null, folder, tmp_path / "out"))
    assert held == 0
    assert most <= 5 * 4 + 1


def test_results_are_those_of_single_edits(editor: Editor, pictures: Path, tmp_path: Path) -> None:
    """Byte for byte, the parameters inside included: from a table in another order, resumed, in batches."""
    table = tmp_path / "jobs.jsonl"
    rows = [{"image": f"pictures/a/{n:02d}.png", "output": f"{n}.png", "seed": n, "steps": 2} for n in (8, 0, 2, 6, 10)]
    table.write_text("\n".join(map(json.dumps, rows)))
    output = tmp_path / "out"
    entries = list(read_entries([str(table)], BLUE, {}, output))
    with open_journal(output, JOB) as journal:
        assert len(list(Gallery(editor, output, journal, max_batch=2).run(entries[1:3]))) == 2
    with open_journal(output, JOB) as journal:
        assert len(list(Gallery(editor, output, journal, max_batch=4).run(entries[::-1]))) == 5
    for row in rows:
        path = tmp_path / "alone.png"
        editor.edit(tmp_path / str(row["image"]), BLUE, steps=2, seed=row["seed"]).save(path)  # type: ignore[call-overload]
        assert path.read_bytes() == (output / str(row["output"])).read_bytes()


def test_codecs_work_beside_the_networks(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a picture steps, the one after the next is decoded (the next one is already) and the last one is encoded.

    In their threads these wait until the step has begun, and the step until both are done: if any of them were done by
    the thread that steps, or after it, all would wait for ever.
    """
    for name in ("a", "b"):
        shutil.rmtree(pictures / name)
    for number in range(4):
        Image.new("RGB", (64, 64), (60 * number, 0, 0)).save(pictures / f"{number}.png")
    steps = [threading.Event() for _ in range(5)]  # the k-th step has begun; there is no fifth
    decoded, encoded = ([threading.Event() for _ in range(4)] for _ in range(2))
    steps[4].set()
    begun = iter(range(4))
    prepare, to_bytes, step = Request.prepare, EditResult.to_bytes, Device.step

    def number_of(path: object) -> int:
        return int(Path(str(path)).stem)

    def slow_prepare(self: Request, *arguments: Any) -> Any:
        number = number_of(self.job.image)
        if self.prepared is None and number > 1:
            assert steps[number - 2].wait(20), f"picture {number} was not decoded beside a step"
        made = prepare(self, *arguments)
        decoded[number].set()
        return made

    def slow_to_bytes(self: EditResult, *arguments: Any, **more: Any) -> bytes:
        number = number_of(more["source"])
        assert steps[number + 1].wait(20), f"picture {number} was not encoded beside a step"
        data = to_bytes(self, *arguments, **more)
        encoded[number].set()
        return data

    def slow_step(self: Device, numbers: Any) -> list[int]:
        number = next(begun)
        steps[number].set()
        assert number > 1 or decoded[number + 2].wait(20)
        assert number == 0 or encoded[number - 1].wait(20)
        return step(self, numbers)

    monkeypatch.setattr(Request, "prepare", slow_prepare)
    monkeypatch.setattr(EditResult, "to_bytes", slow_to_bytes)
    monkeypatch.setattr(Device, "step", slow_step)
    with Editor("shapes", backend="null", max_batch=1) as runner, open_journal(tmp_path / "out", JOB) as journal:
        gallery = Gallery(runner, tmp_path / "out", journal, max_batch=1)
        entries = read_entries([str(pictures)], BLUE, PARAMETERS, tmp_path / "out")
        outcomes = list(gallery.run(entries))
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
