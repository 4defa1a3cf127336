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
from pixrt.options.tasks import EditOptions, GenerateOptions, InpaintOptions, Options
from pixrt.pictures.codecs import encode_picture
from pixrt.pictures.formats import Format
from pixrt.pictures.images import load_picture
from pixrt.pictures.provenance import SourceType
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

BUDGET_SECONDS = 20.0  # a slow machine learns the rest of its curve from its first pictures
_STEPS = 40
_RUNS = 2
_FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp")
_KINDS: Mapping[str, type[Options]] = {"edit": EditOptions, "generate": GenerateOptions, "inpaint": InpaintOptions}


def warm_up(
    editor: Editor, device: Device
) -> tuple[Bucket, dict[int, float], dict[Literal["encode", "decode"], float]]:
    """Run everything once, then measure: seconds of a step by its rows, and of encoding and decoding.

    Raises PixrtError, as an edit does.
    """
    began = time.perf_counter()
    first, second = (_request(editor, 1, guided=True, shade=shade) for shade in (100, 150))
    bucket, (rows,) = device.bucket(first)
    _whole(device, first)  # opens the networks
    encoding, step, decoding = _whole(device, second)
    steps = {rows: step}
    numbers = list[int]()
    for guided, count in _measured(min(bucket.slots, bucket.most_rows // rows)):
        if time.perf_counter() - began > BUDGET_SECONDS:
            break
        for number in numbers:
            device.drop(number)
        numbers, request = list(range(count)), _request(editor, _STEPS, guided=guided, shade=200)
        rows = count * device.bucket(request)[1][0]
        for number in numbers:
            device.encode(number, request)
        device.step(numbers)  # binds a number of rows that is new
        steps[rows] = min(_timed(lambda: device.step(numbers)) for _ in range(_RUNS))  # noqa: B023  # called here
    for number in numbers:
        device.drop(number)
    return bucket, steps, {"encode": encoding, "decode": decoding}


def warm_codecs() -> None:
    """Write a picture in every format that is served, and read it: Pillow loads a codec when it is first used."""
    from PIL import Image

    for format in _FORMATS:
        load_picture(encode_picture(Image.new("RGB", (8, 8)), format, parameters="{}", made=SourceType.EDITED))


def _measured(most: int) -> list[tuple[bool, int]]:
    """Whether pictures are guided, and how many: a single row, then 1, 2, 4 and so on pictures with all branches."""
    counts = sorted({max(most, 1), *(1 << power for power in range(most.bit_length()))})
    return [(False, 1), *((True, count) for count in counts)]


def _request(editor: Editor, steps: int, *, guided: bool, shade: int) -> Request:
    """A picture by a task that the bundle can do; if it is not guided its steps have one row."""
    manifest = editor.manifest
    side, kind = manifest.native_resolution, _KINDS[manifest.task]
    scales = {"guidance_scale": 3.0 if guided else 1.0}
    if manifest.task == "edit":
        scales["image_guidance_scale"] = 1.5 if guided else 1.0
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
