"""A bundle made warm: every network opened and run, and what calls take measured.

So that the first edit is a warm one, and its end is known.
"""

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from pixrt.dispatch.demand import Bucket
from pixrt.editor.device import Device
from pixrt.editor.editor import Editor
from pixrt.maths.guidance import Branch
from pixrt.options.tasks import EditOptions, GenerateOptions, InpaintOptions, Options
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

BUDGET_SECONDS = 20.0  # a slow machine learns the rest of its curve from its first pictures
_STEPS = 40
_RUNS = 2
_KINDS: Mapping[str, type[Options]] = {"edit": EditOptions, "generate": GenerateOptions, "inpaint": InpaintOptions}


def warm_up(
    editor: Editor, device: Device
) -> tuple[Bucket, dict[int, float], dict[Literal["encode", "decode"], float]]:
    """Run everything once, then measure: seconds of a step by its rows, and of encoding and decoding.

    Raises PixrtError, as an edit does.
    """
    began = time.perf_counter()
    first, second = (_request(editor, 1, 2.0, shade) for shade in (100, 150))
    bucket, _ = device.bucket(first)
    _whole(device, first)  # opens the networks
    encoding, step, decoding = _whole(device, second)
    steps = {len(Branch): step}
    numbers = list[int]()
    for rows, scale, count in _measured(min(bucket.slots, bucket.most_rows // len(Branch))):
        if time.perf_counter() - began > BUDGET_SECONDS:
            break
        for number in numbers:
            device.drop(number)
        numbers, request = list(range(count)), _request(editor, _STEPS, scale, 200)
        for number in numbers:
            device.encode(number, request)
        device.step(numbers)  # binds a number of rows that is new
        steps[rows] = min(_timed(lambda: device.step(numbers)) for _ in range(_RUNS))  # noqa: B023  # called here
    for number in numbers:
        device.drop(number)
    return bucket, steps, {"encode": encoding, "decode": decoding}


def _measured(most: int) -> list[tuple[int, float, int]]:
    """Rows, the guidance scale that makes them, and how many pictures: one row, then 1, 2, 4 and so on pictures."""
    counts = sorted({max(most, 1), *(1 << power for power in range(most.bit_length()))})
    return [(1, 1.0, 1), *((len(Branch) * count, 2.0, count) for count in counts)]


def _request(editor: Editor, steps: int, scale: float, shade: int) -> Request:
    """A picture by a task that the bundle can do. With a scale of 1 its steps have one row; no shade is known yet."""
    manifest = editor.manifest
    side, kind = manifest.native_resolution, _KINDS[manifest.task]
    scales = {"guidance_scale": scale} | ({"image_guidance_scale": scale} if manifest.task == "edit" else {})
    job = Job(
        options=kind(steps=steps, seed=0, scheduler="ddim", **scales),  # type: ignore[arg-type]
        text=f"a picture in the shade {shade}",
        image=None if manifest.task == "generate" else np.full((side, side, 3), shade, np.uint8),
        mask=np.ones((side, side), np.bool_) if manifest.task == "inpaint" else None,
    )
    (request,) = editor.check([job])
    return request


def _whole(device: Device, request: Request) -> tuple[float, float, float]:
    """A picture of one step from one end to the other; seconds of encoding, of the step and of decoding."""
    encoding = _timed(lambda: device.encode(0, request))
    step = _timed(lambda: device.step([0]))
    device.leave(0)
    return encoding, step, _timed(lambda: device.decode(0))


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
