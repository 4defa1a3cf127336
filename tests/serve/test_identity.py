"""Company changes nothing: pictures that a server makes together are those that the editor makes one at a time.

Requests of every kind that the model `shapes` can do come at random times to a real server, over HTTP; some clients
leave on the way. What the others get must be their single edits, byte for byte.
"""

import asyncio
import base64
import dataclasses
import io
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from figures.process import Served, total
from figures.wire import EDITS, GENERATIONS, JOBS, Answer, Connection, request, run
from pixrt import Editor
from pixrt.editor.events import Made
from pixrt.errors import OptionError
from pixrt.options.choices import SCHEDULERS
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

THREADS = 1
TEXTS = ("make the background blue", "turn the circle into a star", "make it red", "")
LEAVING = 0.1  # of the clients go away
LEAST_COMPANY = 1.05  # a machine that is busy with other things answers so late that few meet


@dataclass(frozen=True)
class Case:
    """One request, and how it is sent: by OpenAI's interface or as a job; `leaves` after so many seconds."""

    task: str
    text: str
    parameters: Mapping[str, Any]
    pictures: Mapping[str, bytes]
    as_job: bool
    leaves: float | None

    def wire(self) -> bytes:
        texts = {"prompt": self.text, **self.parameters}
        if self.as_job or self.task == "style":
            pictures = {name: base64.b64encode(data).decode() for name, data in self.pictures.items()}
            return request(JOBS, as_json={"task": self.task, **texts, **pictures})
        if self.task == "generate":
            return request(GENERATIONS, as_json=texts)
        fields = {
            name: " ".join(map(str, value)) if isinstance(value, tuple) else value for name, value in texts.items()
        }
        return request(EDITS, fields, self.pictures)

    def job(self) -> Job:
        return Job(options=TASK_OPTIONS[self.task](**self.parameters), text=self.text, **self.pictures)


def draw_case(chance: random.Random, steps: int) -> Case:
    """One of any kind; it may be one that there is not."""
    task = chance.choices(("edit", "generate", "style"), (6, 2, 1))[0]
    text = chance.choice(TEXTS)
    parameters: dict[str, Any] = {
        "seed": chance.randrange(1 << 32),
        "steps": chance.randint(1, steps),
        "scheduler": chance.choice(SCHEDULERS),
        "guidance_scale": chance.choice((1.0, 2.0, round(chance.uniform(0, 9), 3))),
    }
    if chance.random() < 0.3:
        parameters["guidance_interval"] = tuple(sorted(round(chance.random(), 2) for _ in range(2)))
    if chance.random() < 0.2:
        parameters["negative_prompt"] = chance.choice(TEXTS)
    if parameters["scheduler"] == "ddim" and chance.random() < 0.5:
        parameters["eta"] = round(chance.random(), 2)
    size = chance.choice(((64, 64), (64, 64), (64, 48), (chance.randint(40, 96), chance.randint(40, 96))))
    pictures = {}
    if task == "generate":
        parameters |= {"width": size[0] // 4 * 4, "height": size[1] // 4 * 4}
        text = text or TEXTS[0]
    else:
        parameters["image_guidance_scale"] = chance.choice((1.0, 1.2, round(chance.uniform(0, 3), 3)))
        pictures["image"] = draw_picture(chance, size, may_be_clear=True)
        if chance.random() < 0.2:
            parameters["resolution"] = chance.choice((48, 64, 80))
    if task == "edit" and chance.random() < 0.3:
        pictures["mask"] = draw_mask(chance, size)
        if chance.random() < 0.5:
            parameters["mask_blur"] = chance.randint(0, 6)
        if chance.random() < 0.3:
            parameters["mask_padding"] = chance.randint(0, 20)
    if task == "style":
        pictures["style"] = draw_picture(chance, (64, 64))
        parameters |= {"strength": round(chance.uniform(0.3, 1), 2), "style_patch": chance.choice((0, 1, 3))}
    leaves = 1.5 * chance.random() if chance.random() < LEAVING else None
    return Case(task, text, parameters, pictures, chance.random() < 0.3, leaves)


def draw_picture(chance: random.Random, size: tuple[int, int], *, may_be_clear: bool = False) -> bytes:
    generator = np.random.default_rng(chance.randrange(1 << 32))
    coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    if may_be_clear and chance.random() < 0.1:
        image.putalpha(Image.fromarray(generator.integers(0, 256, size[::-1], np.uint8)))
    file = io.BytesIO()
    image.save(file, "PNG" if image.mode == "RGBA" else chance.choice(("PNG", "JPEG", "WEBP")))
    return file.getvalue()


def draw_mask(chance: random.Random, size: tuple[int, int]) -> bytes:
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    top, left = chance.randrange(height // 2), chance.randrange(width // 2)
    mask[top : top + height // 2, left : left + width // 2] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def draw_cases(editor: Editor, count: int, steps: int, seed: int) -> list[tuple[Case, Request]]:
    """Cases that can be made, with what the editor makes of them."""
    chance = random.Random(seed)
    cases: list[tuple[Case, Request]] = []
    while len(cases) < count:
        case = draw_case(chance, steps)
        try:
            (made,) = editor.check([case.job()])
        except OptionError:  # such as a style whose strength leaves none of its steps
            continue
        cases.append((case, made))
    return cases


def single(editor: Editor, asked: Request) -> tuple[bytes, int]:
    """The file of a single edit, and the rows of its steps."""
    (event,) = editor.events([dataclasses.replace(asked, index=0)], steps=False)
    assert isinstance(event, Made)
    return event.result.to_bytes("png"), event.result.network_rows


async def ask(port: int, case: Case) -> bytes | Answer | None:
    """The picture that a client gets; the answer if it is another one; None for a client that left."""
    connection = await Connection.to(port)
    try:
        answering = connection.ask(case.wire())
        if case.leaves is not None:
            await asyncio.wait([answering], timeout=case.leaves)
            return None
        answer = await answering
        if answer.status == 200:
            return base64.b64decode(answer.json["data"][0]["b64_json"])
        if answer.status != 202:
            return answer
        path = answer.json["links"]["result"]
        while (answer := await connection.ask(request(path, method="GET"))).status == 409:
            await asyncio.sleep(0.2)
        return answer.body if answer.status == 200 else answer
    finally:
        connection.leave()


async def ask_all(port: int, cases: list[Case], seconds: float) -> list[bytes | Answer | None]:
    """All of them, each at a random time of so many seconds."""
    chance = random.Random(5)

    async def later(case: Case) -> bytes | Answer | None:
        await asyncio.sleep(seconds * chance.random())
        return await ask(port, case)

    return list(await asyncio.gather(*map(later, cases)))


def check_identity(count: int, steps: int, seed: int, seconds: float) -> None:
    with (
        Editor("shapes", backend="ort-cpu", threads=THREADS) as editor,
        Served("--backend", "ort-cpu", "--threads", str(THREADS), "--queue", str(count)) as server,
    ):
        drawn = draw_cases(editor, count, steps, seed)
        cases = [case for case, _ in drawn]
        got: list[bytes | Answer | None] = []
        client = threading.Thread(target=lambda: got.extend(run(lambda: ask_all(server.port, cases, seconds))))
        client.start()
        expected = [single(editor, asked) for _, asked in drawn]
        client.join()
        metrics = server.metrics()
    assert len(got) == count
    for case, (picture, _), answer in zip(cases, expected, got, strict=True):
        if case.leaves is None:
            assert answer == picture, (case, answer if isinstance(answer, Answer) else "other bytes")
    alone = sum(rows for _, rows in expected) / sum(len_of(asked) for _, asked in drawn)
    together = total(metrics, "pixrt_call_rows_sum", kind="step") / total(metrics, "pixrt_call_rows_count", kind="step")
    assert together > LEAST_COMPANY * alone, f"{together:.2f} rows a call, {alone:.2f} of pictures by themselves"


def len_of(asked: Request) -> int:
    """Steps of a picture."""
    options = asked.options
    assert options.steps is not None
    return options.steps - options.start


def test_forty_together() -> None:
    check_identity(40, steps=4, seed=1, seconds=2)


@pytest.mark.slow
def test_five_hundred_together() -> None:
    check_identity(500, steps=12, seed=2, seconds=60)
