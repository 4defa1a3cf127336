"""A run: pictures join and leave a pool between steps; what fails, is cancelled or changed touches nobody else."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loras import ATTENTION, lora, write
from pixrt import BackendError, Cancelled, EditOptions, Editor, Failed, Job, Made, PictureError, PixrtError, Stepped
from pixrt.core.encoders import Encoders
from pixrt.core.pool import HostPool
from pixrt.options.tasks import Options
from shapes import BLUE, INVERT, pixels

OPTIONS = [
    EditOptions(steps=4, seed=1, scheduler="ddim"),
    EditOptions(steps=7, seed=2, scheduler="euler_ancestral", guidance_interval=(0.0, 0.5)),
    EditOptions(steps=2, seed=3, scheduler="lcm", guidance_scale=1.5, image_guidance_scale=1.0),
    EditOptions(steps=5, seed=4, scheduler="pndm", guidance_scale=1, image_guidance_scale=1),
    EditOptions(steps=6, seed=5, scheduler="dpmpp_2m_sde", guidance_scale=0.0, image_guidance_scale=2.0),
    EditOptions(steps=3, seed=6, scheduler="unipc"),
]


def jobs_of(picture: Any, options: list[Options] | list[EditOptions] | None = None) -> list[Job]:
    return [
        Job(options=each, image=picture, text=(BLUE, INVERT)[number % 2])
        for number, each in enumerate(options or OPTIONS)
    ]


@pytest.fixture(scope="module")
def shared() -> Iterator[Editor]:
    with Editor("shapes", backend="ort-cpu", threads=2, max_batch=3) as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(shared: Editor) -> list[np.ndarray[Any, Any]]:
    """Each of the jobs by itself."""
    with Image.open("examples/scene.png") as image:
        picture = image.convert("RGB")
    return [pixels(result.image) for job in jobs_of(picture) for result in shared.run(shared.check([job]))]


def test_the_events_of_mixed_pictures(shared: Editor, scene: Image.Image, alone: Any) -> None:
    requests = shared.check(jobs_of(scene))
    steps: dict[int, list[int]] = {}
    made: dict[int, Any] = {}
    with shared.events(requests) as run:
        for event in run:
            assert event.index not in made
            if isinstance(event, Stepped):
                steps.setdefault(event.index, []).append(event.step)
                assert event.latents.shape == (4, 16, 16)
            else:
                assert isinstance(event, Made)
                made[event.index] = event.result
    counts = {number: list(range(1, request.options.steps + 1)) for number, request in enumerate(requests)}  # type: ignore[operator]
    counts[3].append(6)  # PNDM takes its first step twice
    assert steps == counts
    for number, result in made.items():
        np.testing.assert_array_equal(pixels(result.image), alone[number])
        assert 0 < result.times.denoise_share_ms <= result.times.denoise_ms
        assert result.network_rows > 0


def test_a_run_without_steps_tells_results_only(shared: Editor, scene: Image.Image) -> None:
    events = list(shared.events(shared.check(jobs_of(scene)[:2]), steps=False))
    assert [type(event) for event in events] == [Made, Made]


def test_pictures_that_cannot_be_read_fail_by_themselves(shared: Editor, scene: Image.Image, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        scene.save(path)
    requests = shared.check([Job(options=OPTIONS[0], image=path, text=BLUE) for path in paths])
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    events = {event.index: event for event in shared.events(requests, steps=False)}
    assert isinstance(events[1], Failed)
    assert isinstance(events[1].error, PictureError)
    for number in (0, 2):
        assert isinstance(events[number], Made)
        (expected,) = shared.run(shared.check([Job(options=OPTIONS[0], image=scene, text=BLUE)]))
        np.testing.assert_array_equal(pixels(events[number].result.image), pixels(expected.image))  # type: ignore[union-attr]


def test_checking_can_go_on_too(shared: Editor, scene: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"nothing")
    jobs = [Job(options=OPTIONS[0], image=each, text=BLUE) for each in (scene, tmp_path / "no.png", scene)]
    refused: list[tuple[int, str]] = []
    requests = shared.check(jobs, on_refused=lambda index, error: refused.append((index, error.problem)))
    assert [request.index for request in requests] == [0, 2]
    assert [index for index, _ in refused] == [1]
    with pytest.raises(PictureError):
        shared.check(jobs)


def test_a_picture_that_is_not_finite_fails_by_itself(
    shared: Editor, scene: Image.Image, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = HostPool.join

    def poisoned(self: HostPool, track: Any) -> int:
        slot = original(self, track)
        if track.seed == 2:
            self._slots[slot].states[0][:] = np.nan
        return slot

    monkeypatch.setattr(HostPool, "join", poisoned)
    events = {event.index: event for event in shared.events(shared.check(jobs_of(scene)), steps=False)}
    broken = events.pop(1)
    assert isinstance(broken, Failed)
    assert "not finite" in broken.error.problem
    for number, event in events.items():
        assert isinstance(event, Made)
        np.testing.assert_array_equal(pixels(event.result.image), alone[number])


@pytest.mark.parametrize("error", [MemoryError(), BackendError("out of memory", remedy="Less")])
def test_a_step_that_runs_out_of_memory_is_taken_again_with_fewer(
    shared: Editor, scene: Image.Image, alone: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    original, taken = HostPool.step, list[int]()

    def small(self: HostPool, slots: Any = None) -> list[int]:
        inside = [track for track in self._occupancy.tracks if track is not None]
        if len(inside) > 1 or inside[0].seed == 4:
            raise error
        taken.append(len(inside))
        return original(self, slots)

    monkeypatch.setattr(HostPool, "step", small)
    events = {event.index: event for event in shared.events(shared.check(jobs_of(scene)), steps=False)}
    broken = events.pop(3)
    assert isinstance(broken, Failed)
    assert isinstance(broken.error, BackendError)
    assert "out of memory" in broken.error.problem
    for number, event in events.items():
        assert isinstance(event, Made)
        np.testing.assert_array_equal(pixels(event.result.image), alone[number])
    assert set(taken) == {1}


class TestCancel:
    @pytest.mark.parametrize("victim", [0, 1, 5])
    def test_within_a_step_and_the_others_unharmed(
        self, shared: Editor, scene: Image.Image, alone: Any, victim: int
    ) -> None:
        """Running ones, and one that still waits."""
        last, ended = 0, dict[int, Any]()
        with shared.events(shared.check(jobs_of(scene))) as run:
            for event in run:
                if isinstance(event, Stepped):
                    assert event.index not in ended
                    last += event.index == victim
                    if event.index == 0 and event.step == 2:
                        run.cancel(victim)
                else:
                    ended[event.index] = event
        broken = ended.pop(victim)
        assert isinstance(broken, Failed)
        assert isinstance(broken.error, Cancelled)
        assert last == (2 if victim < 3 else 0)
        for number, event in ended.items():
            np.testing.assert_array_equal(pixels(event.result.image), alone[number])

    def test_from_another_thread(self, shared: Editor, scene: Image.Image) -> None:
        jobs = jobs_of(scene, [EditOptions(steps=1000, seed=1, scheduler="euler"), EditOptions(steps=2, seed=2)])
        run = shared.events(shared.check(jobs), steps=False)
        first = next(run)
        threading.Timer(0.1, run.cancel, [0]).start()
        second = next(run)
        assert (first.index, second.index) == (1, 0)
        assert isinstance(second, Failed)
        assert isinstance(second.error, Cancelled)
        assert next(run, None) is None


class TestOthersUseTheBundle:
    def test_runs_in_turn(self, shared: Editor, scene: Image.Image, alone: Any) -> None:
        """Two runs and a call between the steps of the first: pools of their own."""
        runs = [shared.events(shared.check(jobs_of(scene)[:3])) for _ in range(2)]
        found: list[dict[int, Any]] = [{}, {}]
        while any(len(each) < 3 for each in found):
            for run, made in zip(runs, found, strict=True):
                event = next(run, None)
                if isinstance(event, Made):
                    made[event.index] = pixels(event.result.image)
            (between,) = shared.run(shared.check(jobs_of(scene)[2:3]))
            assert between.seed == 3
        for made in found:
            for number, picture in made.items():
                np.testing.assert_array_equal(picture, alone[number])

    def test_other_weights_in_the_middle_begin_pictures_again(self, scene: Image.Image, tmp_path: Path) -> None:
        """So that every picture is made with one set of weights."""
        file = write(tmp_path / "l.safetensors", lora(ATTENTION))
        with Editor("shapes", backend="ort-cpu", threads=2, max_batch=3) as editor:
            jobs = jobs_of(scene)[:2]
            plain = [pixels(result.image) for result in editor.run(editor.check(jobs))]
            editor.set_loras([(file, 4.0)])
            changed = [result for job in jobs for result in editor.run(editor.check([job]))]
            editor.set_loras([])
            with editor.events(editor.check(jobs)) as run:
                results = []
                for event in run:
                    if isinstance(event, Stepped) and event.index == 1 and event.step == 3 and not editor.loras:
                        editor.set_loras([(file, 4.0)])
                    if isinstance(event, Made):
                        results.append(event.result)
        for ours, theirs in zip(sorted(results, key=lambda result: result.index), changed, strict=True):
            np.testing.assert_array_equal(pixels(ours.image), pixels(theirs.image))
            assert ours.loras == theirs.loras
            assert not np.array_equal(pixels(ours.image), plain[ours.index])

    def test_a_closed_editor_ends_a_run(self, scene: Image.Image) -> None:
        with Editor("shapes", backend="ort-cpu", threads=2) as editor:
            run = editor.events(editor.check(jobs_of(scene)[:2]))
            next(run)
        events = list(run)
        assert [type(event) for event in events if not isinstance(event, Stepped)] == [Failed, Failed]
        assert all("closed" in event.error.problem for event in events if isinstance(event, Failed))


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_run_that_is_left_gives_everything_back(scene: Image.Image, low_memory: bool, alone: Any) -> None:
    with Editor("shapes", backend="ort-cpu", threads=2, max_batch=3, low_memory=low_memory) as editor:
        for stop_at in (1, 4, 9):
            with editor.events(editor.check(jobs_of(scene))) as run:
                for _ in range(stop_at):
                    next(run)
            assert not low_memory or not editor._networks.open
            assert len(editor._networks._pools) == (0 if low_memory else 1)
        results = {result.index: pixels(result.image) for result in editor.run(editor.check(jobs_of(scene)))}
    for number, picture in results.items():
        np.testing.assert_array_equal(picture, alone[number])


def test_pictures_added_while_others_are_made(shared: Editor, scene: Image.Image, alone: Any) -> None:
    requests = shared.check(jobs_of(scene))
    made: dict[int, Any] = {}
    with shared.events(requests[:1]) as run:
        for event in run:
            if isinstance(event, Made):
                made[event.index] = pixels(event.result.image)
            if requests[1:] and run.waiting == 0:
                run.add(requests.pop(1))
    assert sorted(made) == list(range(6))
    for number, picture in made.items():
        np.testing.assert_array_equal(picture, alone[number])


def test_an_error_while_encoding_is_that_pictures(
    shared: Editor, scene: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., Any] = Encoders.source
    pictures = [scene, scene.rotate(180), scene.rotate(90)]

    def failing(self: Encoders, pixels: Any, clock: Any, origin: bytes = b"") -> Any:
        if not np.array_equal(pixels, _in_range(pictures[1])):
            return original(self, pixels, clock, origin)
        raise PixrtError("the encoder failed", remedy="None")

    monkeypatch.setattr(Encoders, "source", failing)
    jobs = [Job(options=OPTIONS[2], image=each, text=BLUE) for each in pictures]
    events = {event.index: type(event) for event in shared.events(shared.check(jobs), steps=False)}
    assert events == {0: Made, 1: Failed, 2: Made}


def _in_range(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))
