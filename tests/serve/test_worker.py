"""The worker at its socket: what it makes, what breaks it, and that it keeps nothing of what has ended."""

import dataclasses
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pixrt.editor.device as device_module
import pixrt.editor.runner as runner_module
import pixrt.serve.worker as worker_module
from loras import ATTENTION, lora, write
from pixrt import Editor
from pixrt.backends.tuned import EditCost
from pixrt.core.pool import HostPool
from pixrt.editor.events import Stepped
from pixrt.editor.result import EditResult
from pixrt.errors import DeviceLost, OutOfMemory
from pixrt.options.tasks import EditOptions, GenerateOptions
from pixrt.serve.channel import WorkerEnd
from pixrt.serve.messages import (
    Broke,
    Check,
    Checked,
    Do,
    Drop,
    Found,
    LostPlaces,
    Made,
    Prepared,
    Preview,
    Ran,
    Read,
    Ready,
)
from pixrt.serve.tickets import Asked, Output, RawPicture
from shapes import BLUE, INVERT, SCENE, pixels
from workers import SECONDS, Front, setup_of

STEPS = 3
BOMB = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in (
        (b"IHDR", struct.pack(">II5B", 60_000, 50_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100))),
        (b"IEND", b""),
    )
)
NO_MEMORY = [MemoryError(), OutOfMemory("the device has no memory left", remedy="Use a smaller --resolution")]


def asks(text: str = BLUE, *, seed: int = 5, invert_mask: bool = False, **said: Any) -> Asked:
    return Asked(
        options=EditOptions(steps=STEPS, seed=seed, invert_mask=invert_mask),
        text=text,
        image=SCENE.read_bytes(),
        **said,
    )


def shown(data: bytes) -> np.ndarray[Any, Any]:
    return pixels(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def shared() -> Iterator[Front]:
    with Front() as front:
        yield front


@pytest.fixture
def front(shared: Front) -> Iterator[Front]:
    """A worker that many tests use, of whose pictures none must be left."""
    yield shared
    shared.require_nothing_kept()


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_picture_is_the_single_edit(front: Front, editor: Editor) -> None:
    result = front.make(1, asks())
    single = editor.edit(SCENE, BLUE, steps=STEPS, seed=5)
    assert np.array_equal(shown(result.data), pixels(single.image))
    assert (result.size, result.backend, result.media_type) == (single.image.size, "ort-cpu", "image/png")
    assert result.parameters == single.parameters
    assert set(result.times) >= {"encode_ms", "denoise_ms", "decode_ms", "write_ms"}


def test_what_its_user_should_know(front: Front) -> None:
    assert front.make(1, asks()).notes == ()
    (note,) = front.make(1, asks("add a castle")).notes
    assert note.startswith("pixrt-shapes was not taught 'add a castle'")


def test_pictures_of_one_call_are_the_single_edits(front: Front, editor: Editor) -> None:
    front.check(1, asked=asks())
    front.check(2, asked=asks(INVERT, seed=6))
    front.do("encode", 1)
    front.do("step", 1)
    front.do("encode", 2)
    front.do("step", 1, 2)
    front.do("step", 1, 2)
    front.do("decode", 1)
    front.do("step", 2)
    front.do("decode", 2)
    for number, text, seed in ((1, BLUE, 5), (2, INVERT, 6)):
        single = editor.edit(SCENE, text, steps=STEPS, seed=seed)
        assert np.array_equal(shown(front.expect(Made, number).result.data), pixels(single.image))


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "raw"])
def test_formats(front: Front, editor: Editor, format: Any) -> None:
    made = front.make(1, asks(output=Output(format, 80))).data
    single = editor.edit(SCENE, BLUE, steps=STEPS, seed=5)
    expected = single.image.tobytes() if format == "raw" else single.to_bytes(format, quality=80)
    assert (made if format == "raw" else shown(made).tobytes()) == (
        expected if format == "raw" else shown(expected).tobytes()
    )


def test_pixels_instead_of_a_file(front: Front) -> None:
    image = Image.open(SCENE).convert("RGB")
    raw = RawPicture(image.tobytes(), *image.size)
    asked = Asked(options=EditOptions(steps=STEPS, seed=5), text=BLUE, image=raw)
    assert np.array_equal(shown(front.make(1, asked).data), shown(front.make(2, asks()).data))


def test_a_size_and_a_mask_that_is_turned_around(front: Front, editor: Editor) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    file = io.BytesIO()
    mask.save(file, "PNG")
    result = front.make(1, asks(mask=file.getvalue(), invert_mask=True, size=(32, 32)))
    small = Image.open(SCENE).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
    right = np.zeros((32, 32), np.bool_)
    right[:, 16:] = True
    single = editor.edit(small, BLUE, mask=right, steps=STEPS, seed=5)
    assert np.array_equal(shown(result.data), pixels(single.image))


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        (b"no picture", 415, "unsupported_image"),
        (SCENE.read_bytes()[:20], 400, "invalid_image"),
        (RawPicture(bytes(3 * 6000 * 5000), 6000, 5000), 413, "image_too_large"),
    ],
)
def test_pictures_that_are_none(front: Front, image: Any, status: int, code: str) -> None:
    front.send(Check((1,), (Asked(options=EditOptions(), text="x", image=image),)))
    broke = front.expect(Broke, 1)
    assert (broke.problem.status, broke.problem.code, broke.problem.param, broke.was_done) == (
        *(status, code, "image"),
        False,
    )


def test_a_file_that_breaks_after_its_head(front: Front) -> None:
    data = SCENE.read_bytes()
    front.send(Check((1,), (Asked(options=EditOptions(), text="x", image=data[: len(data) // 2]),)))
    front.expect(Checked, 1)
    assert front.expect(Broke, 1).problem.code == "invalid_image"


def test_options_that_the_model_does_not_have(front: Front) -> None:
    """Sizes that its networks do not take, say."""
    front.send(Check((1,), (Asked(options=GenerateOptions(width=66), text="x"),)))
    problem = front.expect(Broke, 1).problem
    assert (problem.status, problem.param) == (400, "width")


@pytest.mark.parametrize("measured", [False, True])
def test_a_budget(front: Front, monkeypatch: pytest.MonkeyPatch, measured: bool) -> None:
    """By what `pixrt tune` kept on this machine, or refused: never left aside."""
    cost = EditCost(beside_ms=10, whole_ms=(10, 20, 30))
    monkeypatch.setattr(runner_module, "costs_for", lambda *_: {64: cost} if measured else {})
    asked = Asked(options=EditOptions(seed=5, budget_ms=100, branch_interval=1), text=BLUE, image=SCENE.read_bytes())
    if measured:
        asked = dataclasses.replace(asked, options=dataclasses.replace(asked.options, budget_ms=135))
        said = front.make(1, asked).parameters
        assert (said["budget_ms"], said["steps"], said["branch_interval"]) == (135, 4, 1)
        return
    front.send(Check((1,), (asked,)))
    problem = front.expect(Broke, 1).problem
    assert (problem.status, problem.param) == (400, "budget_ms")
    assert "pixrt tune" in problem.message


@pytest.mark.parametrize("error", NO_MEMORY)
@pytest.mark.parametrize("stage", ["encode", "step", "decode", "write"])
def test_no_memory_for_one_picture(
    front: Front, editor: Editor, monkeypatch: pytest.MonkeyPatch, stage: str, error: Exception
) -> None:
    """It fails with 507; the one beside it, and the next one, are as ever."""
    front.check(1, 2, asked=asks())
    before = {"encode": 0, "step": 1, "decode": 1 + STEPS, "write": 1 + STEPS}[stage]
    front.do("encode", 2)
    for kind in ["encode", *["step"] * STEPS][:before]:
        front.do(kind, 1)
    place: dict[str, tuple[object, str]] = {
        "encode": (device_module, "encode"),
        "step": (HostPool, "step"),
        "decode": (device_module, "finish"),
        "write": (EditResult, "to_bytes"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*place[stage], failing(error))
        if stage == "write":
            front.do("decode", 1)
            broke = front.expect(Broke, 1)
        else:
            broke = front.broke(stage, 1)
    assert (broke.number, broke.problem.status, broke.problem.code) == (1, 507, "out_of_memory")
    assert broke.was_done == (stage != "write")
    for _ in range(STEPS):
        front.do("step", 2)
    front.do("decode", 2)
    single = pixels(editor.edit(SCENE, BLUE, steps=STEPS, seed=5).image)
    for number in (2, 3):
        made = front.expect(Made, 2).result if number == 2 else front.make(3, asks())
        assert np.array_equal(shown(made.data), single)


def test_no_memory_for_several_at_once(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the call begin again, fewer at once from now on; one that was dropped meanwhile does not."""
    with Front() as front:
        _lose_places(front, editor, monkeypatch)
        front.require_nothing_kept()


def _lose_places(front: Front, editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    front.check(1, 2, 3, asked=asks())
    for number in (1, 2, 3):
        front.do("encode", number)
    front.do("step", 1, 2, 3)
    with monkeypatch.context() as patched:
        patched.setattr(HostPool, "step", failing(MemoryError()))
        front.send(Do("step", (1, 2, 3)))
        front.send(Drop(2))
        lost = front.expect(LostPlaces)
    assert (sorted(lost.numbers), lost.slots, sorted(lost.demands)) == ([1, 2, 3], 1, [1, 2, 3])
    assert lost.demands[1][1] == (3,) * STEPS
    for number in (1, 3):
        front.do("encode", number)
        for _ in range(STEPS):
            front.do("step", number)
        front.do("decode", number)
        single = editor.edit(SCENE, BLUE, steps=STEPS, seed=5)
        assert np.array_equal(shown(front.expect(Made, number).result.data), pixels(single.image))


def test_what_nobody_thought_of_is_told_without_a_word(
    front: Front, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    front.check(1, asked=asks("a secret wish"))
    with monkeypatch.context() as patched:
        patched.setattr(device_module, "encode", failing(RuntimeError("a secret wish")))
        problem = front.broke("encode", 1).problem
    assert (problem.status, problem.code) == (500, "internal_error")
    assert "secret" not in problem.message
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "secret" not in caplog.records[0].getMessage()


@pytest.mark.parametrize("done", range(STEPS + 3))
def test_a_picture_that_is_dropped_at_any_time(front: Front, done: int) -> None:
    """While it waits, before its first step, between steps, when it has ended; the one beside it goes on."""
    front.check(1, 2, asked=asks())
    for kind in ["encode", *["step"] * STEPS][: max(0, done - 1)]:
        front.do(kind, 1)
        if kind == "encode":
            front.do("encode", 2)
    if done == 0:  # while it is checked, or before
        front.send(Check((3,), (asks(),)))
        front.drop(3)
    front.drop(1)
    if done < 2:
        front.do("encode", 2)
    for _ in range(STEPS):
        front.do("step", 2)
    front.do("decode", 2)
    front.expect(Made, 2)
    front.unexpected.clear()  # what was said of the third before it was dropped


def test_a_picture_that_is_dropped_while_the_device_is_at_it(front: Front) -> None:
    front.check(1, asked=asks())
    for kind in ("encode", *["step"] * STEPS, "decode"):
        front.do(kind, 1) if kind != "decode" else front.send(Do("decode", (1,)))
    front.drop(1)
    front.expect(Ran)
    front.unexpected.clear()  # it may have been written already


def test_what_is_dropped_is_let_go_while_the_device_is_busy(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may take long; in the meantime any number of clients may come and go."""
    going = threading.Event()
    front.check(1, asked=asks())
    whole = device_module.encode
    with monkeypatch.context() as patched:
        patched.setattr(device_module, "encode", lambda *given: going.wait(SECONDS) and whole(*given))
        front.send(Do("encode", (1,)))
        front.send(Check((2,), (asks(),)))
        front.expect(Prepared, 2)
        assert 2 in front.worker._asked
        front.send(Drop(2))
        front.send(Check((3,), (asks(),)))  # the socket is read in order
        front.expect(Prepared, 3)
        assert 2 not in front.worker._asked
        assert 2 not in front.worker._requests
        going.set()
        front.expect(Ran)
    front.expect(Checked, 2)
    front.expect(Checked, 3)
    front.drop(1)
    front.drop(3)


def test_beyond_its_memory_it_decodes_when_a_picture_has_its_turn(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = front.make(1, asks())
    monkeypatch.setattr(worker_module, "_PREPARED_BYTES", 1)
    front.check(2, asked=asks())
    front.check(3, asked=asks())
    assert front.worker._requests[2].prepared is not None
    assert front.worker._requests[3].prepared is None
    front.drop(2)
    front.drop(3)
    monkeypatch.setattr(worker_module, "_PREPARED_BYTES", 0)
    assert np.array_equal(shown(front.make(4, asks()).data), shown(first.data))


def test_previews(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.check(1, asked=asks())
    front.do("encode", 1)
    front.do("step", 1, previews=[1])
    told = front.expect(Preview, 1)
    assert (told.step, shown(told.picture).shape) == (1, shown(SCENE.read_bytes())[..., :3].shape)
    with monkeypatch.context() as patched:  # one that cannot be made does no harm
        patched.setattr(Stepped, "preview", failing(MemoryError()))
        front.do("step", 1, previews=[1])
    with monkeypatch.context() as patched:
        patched.setattr(worker_module, "preview_of", failing(MemoryError()))
        front.do("step", 1, previews=[1])
        front.do("decode", 1)
        front.expect(Made, 1)


def test_a_front_that_is_gone_ends_it() -> None:
    front = Front(backend="null")
    front.check(1, asked=asks())
    front.do("encode", 1)
    front.leave()


def test_a_worker_that_hears_nothing_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(backend="null")
    front.check(1, asked=asks())
    error: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", error.append)
    monkeypatch.setattr(front.worker._end, "receive", failing(MemoryError()))
    front.send(Drop(0))  # what is read by the true `receive` yet
    front.require_end()
    assert error[0].exc_type is MemoryError


def test_pools_of_any_number_of_sizes_are_not_kept(front: Front) -> None:
    for number, side in enumerate((64, 32, 48, 80, 64)):
        asked = Asked(options=GenerateOptions(steps=STEPS, seed=1, width=side, height=64), text="a red circle")
        assert front.make(number, asked).size == (side, 64)
    (_, device) = front.worker._variants._open[()]
    assert len(device._pools) == 1


# LoRAs.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(("ink", "oil", "wash")):
        write(made / f"{name}.safetensors", lora(ATTENTION, seed=seed))
    tensors = {name: np.zeros((3, 7), np.float32) for name in lora(ATTENTION)}
    write(made / "false.safetensors", tensors)
    (made / "notes.txt").write_text("no LoRA")
    return made


@pytest.fixture(scope="module")
def with_loras(folder: Path) -> Iterator[Front]:
    with Front(lora_folder=str(folder), variants=2) as front:
        yield front


def test_embeddings_of_the_servers_folder(tmp_path: Path, editor: Editor) -> None:
    file = tmp_path / "toy.safetensors"
    write(file, {"blue": np.full((2, 128), 0.7, np.float32)})  # a word of the instruction
    with Front(embedding_folder=str(tmp_path)) as front:
        result = front.make(1, asks())
    with Editor("shapes", backend="ort-cpu", threads=1, embeddings=[file]) as other:
        single = other.edit(SCENE, BLUE, steps=STEPS, seed=5)
    assert "blue" in BLUE
    assert np.array_equal(shown(result.data), pixels(single.image))
    assert result.parameters == single.parameters
    assert not np.array_equal(pixels(single.image), pixels(editor.edit(SCENE, BLUE, steps=STEPS, seed=5).image))


def test_names_of_loras(with_loras: Front) -> None:
    assert with_loras.ready.model.loras == ("false", "ink", "oil", "wash")


@pytest.mark.parametrize("loras", [(("ink", 1.0),), (("ink", 0.5),), (("oil", 1.0), ("ink", -0.7))])
def test_a_lora_makes_what_an_editor_with_it_makes(with_loras: Front, folder: Path, editor: Editor, loras: Any) -> None:
    result = with_loras.make(1, asks(loras=loras))
    files = [(folder / f"{name}.safetensors", scale) for name, scale in loras]
    with Editor("shapes", backend="ort-cpu", threads=1, loras=files) as other:
        single = other.edit(SCENE, BLUE, steps=STEPS, seed=5)
    assert np.array_equal(shown(result.data), pixels(single.image))
    assert result.parameters == single.parameters
    assert not np.array_equal(pixels(single.image), pixels(editor.edit(SCENE, BLUE, steps=STEPS, seed=5).image))
    with_loras.require_nothing_kept()


def test_the_sets_that_were_used_last_stay_open(with_loras: Front) -> None:
    worker = with_loras.worker
    for name in ("ink", "oil", "ink", "wash"):
        with_loras.make(1, asks(loras=((name, 1.0),)))
    assert set(worker._variants.names) == {(), (("ink", 1.0),), (("wash", 1.0),)}
    ink = worker._variants._open[("ink", 1.0),][0]
    with_loras.make(1, asks(loras=(("ink", 1.0),)))
    assert worker._variants._open[("ink", 1.0),][0] is ink
    with_loras.require_nothing_kept()


def test_pictures_of_several_sets_at_once(with_loras: Front) -> None:
    alone = [with_loras.make(1, asks(loras=loras)).data for loras in ((), (("ink", 1.0),), (("oil", 1.0),))]
    for number, loras in enumerate(((), (("ink", 1.0),), (("oil", 1.0),)), 1):
        with_loras.check(number, asked=asks(loras=loras))
        with_loras.do("encode", number)
    for _ in range(STEPS):
        for number in (1, 2, 3):
            with_loras.do("step", number)
    for number, data in enumerate(alone, 1):
        with_loras.do("decode", number)
        assert np.array_equal(shown(with_loras.expect(Made, number).result.data), shown(data))
    with_loras.require_nothing_kept()


@pytest.mark.parametrize("name", ["false", "missing", "../ink", "notes"])
def test_a_lora_that_cannot_be_used(with_loras: Front, name: str) -> None:
    with_loras.check(1, asked=asks(loras=((name, 1.0),)))
    problem = with_loras.broke("encode", 1).problem
    assert (problem.status, problem.code, problem.param) == (400, "invalid_lora", "lora")
    with_loras.make(2, asks(loras=(("ink", 1.0),)))
    with_loras.require_nothing_kept()


def test_a_task_that_takes_no_picture(front: Front) -> None:
    asked = Asked(options=GenerateOptions(steps=STEPS, seed=1, width=64, height=64), text="a red circle")
    assert front.make(1, asked).size == (64, 64)


LOSING = """
from pixrt.errors import DeviceLost
from pixrt.serve import worker


def lose(self, order):
    raise DeviceLost("the device does not answer", remedy="Start again")


worker.Worker._step = lose
worker.main()
"""


def test_a_lost_device_ends_the_process() -> None:
    """Only a new process can use it again; the front starts one."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", LOSING, str(theirs.fileno())]
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
        theirs.close()
        end = WorkerEnd(ours)
        end.send(setup_of())
        assert isinstance(end.receive(), Ready)
        end.send(Check((1,), (asks(),)))
        assert isinstance(end.receive(), Checked)
        end.send(Do("encode", (1,)))
        end.send(Do("step", (1,)))
        while end.receive() is not None:
            pass
        end._file.close()
        assert process.wait(30) == DeviceLost.exit_code
        assert process.stderr is not None
        assert b"the device is lost" in process.stderr.read()


def test_it_reads_what_a_picture_says(front: Front) -> None:
    result = front.make(1, asks())
    front.send(Read(2, result.data))
    assert front.expect(Found, 2).parameters == json.loads(json.dumps(result.parameters))


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (SCENE.read_bytes(), 400, "no_parameters"),
        (b"no picture", 415, "unsupported_image"),
        (SCENE.read_bytes()[:20], 400, "invalid_image"),
        (BOMB, 413, "image_too_large"),
        (b"\xff\xd8" + b"\xff\xfe\x00\x02" * 300_000, 400, "invalid_image"),
    ],
)
def test_pictures_that_say_nothing(front: Front, data: bytes, status: int, code: str) -> None:
    front.send(Read(1, data))
    problem = front.expect(Broke, 1).problem
    assert (problem.status, problem.code, problem.param) == (status, code, "image")
