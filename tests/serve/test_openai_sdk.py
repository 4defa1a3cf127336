"""What the openai SDK makes of answers: what it sends again, what it raises, and what happens if it goes away.

A real server on a real port, whose pictures are not made; the SDK in an environment of its own, kept in pytest's cache.
"""

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from pixrt.serve.app import make_app
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Asked, State, Ticket
from serving import FakeService, done, failing, hold, preview, with_previews
from serving_clients import environment

SCRIPT = """
import base64, json, sys, time
import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=2)
images, picture = client.images, ("p.png", b"a picture", "image/png")
told = {}


def edit(prompt, **more):
    return images.edit(image=picture, prompt=prompt, extra_body={"seed": 4}, **more)


answer = edit("works", n=2, user="u")
extra = answer.data[0].model_extra
told["works"] = [len(answer.data), answer.usage.total_tokens, answer.model_extra["seeds"], extra["times"]["queue_ms"]]
options = {"guidance_interval": [0.1, 0.8], "lora": ["watercolour:0.5", "ink:wash"], "num_inference_steps": 7}
images.edit(image=[picture], prompt="options", extra_body=options)
told["full once"] = len(edit("full once").data)
for prompt in ("late", "no memory", "lost"):
    try:
        edit(prompt)
    except openai.APIStatusError as error:
        told[prompt] = [error.status_code, error.code, type(error).__name__]
told["stream"] = [event.type for event in edit("stream", stream=True, partial_images=2)]
seen = []
try:
    for event in edit("breaks", stream=True, partial_images=1):
        seen.append(event.type)
except openai.APIError as error:
    told["breaks"] = [seen, error.code, error.message]
stream = edit("left stream", stream=True, partial_images=1)
next(iter(stream))
stream.close()
try:
    edit("left", timeout=0.3)
except openai.APITimeoutError:
    told["left"] = "timeout"
print(json.dumps(told))
"""


@dataclass
class Scripted(FakeService):
    """What happens to a picture is what its prompt says."""

    attempts: "Counter[str]" = field(default_factory=Counter)

    async def submit(self, asked: Sequence[Asked], *, client: str, keep: bool = False) -> list[Ticket]:
        text = asked[0].text
        self.attempts[text] += 1
        if text == "full once" and self.attempts[text] == 1:
            raise Problem(429, "queue_full", "The queue is full.", retry_after=1)
        if text == "late":
            raise Problem(504, "deadline_too_near", "Too late.")
        return await super().submit(asked, client=client, keep=keep)

    def follow(self, ticket: Ticket) -> None:
        """What happens to a ticket."""
        text = ticket.asked.text
        if text in ("left", "left stream"):
            hold(ticket)
        if text in ("breaks", "left stream"):
            preview(ticket, 1)
        failures = {
            "no memory": Problem(507, "out_of_memory", "No memory."),
            "breaks": Problem(507, "out_of_memory", "No memory."),
            "lost": Problem(503, "worker_lost", "It has ended.", retry_after=1),
        }
        if text in failures:
            failing(failures[text])(ticket)
        elif text == "stream":
            with_previews(ticket)
        elif not text.startswith("left"):
            done(ticket)


@pytest.fixture(scope="module")
def service() -> Scripted:
    service = Scripted()
    service.on_accepted = service.follow
    return service


@pytest.fixture(scope="module")
def told(service: Scripted, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the script has seen; the server runs on."""
    python = environment("openai", request.config.cache.mkdir("clients"))
    server = uvicorn.Server(uvicorn.Config(make_app(service), port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    run = subprocess.run(
        [str(python), "-c", SCRIPT, f"http://127.0.0.1:{port}"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    yield json.loads(run.stdout)
    server.should_exit = True
    thread.join()


pytestmark = pytest.mark.slow


def test_what_is_not_openais_reaches_the_user(told: dict[str, Any], service: Scripted) -> None:
    assert told["works"] == [2, 0, [4, 5], 1.0]
    (asked,) = (ticket.asked for ticket in service.accepted if ticket.asked.text == "options")
    assert (asked.options.guidance_interval, asked.options.steps) == ((0.1, 0.8), 7)
    assert asked.loras == (("watercolour", 0.5), ("ink:wash", 1.0))


def test_only_what_may_succeed_is_sent_again(told: dict[str, Any], service: Scripted) -> None:
    assert (told["full once"], service.attempts["full once"]) == (1, 2)
    assert (told["late"], service.attempts["late"]) == ([504, "deadline_too_near", "InternalServerError"], 1)
    assert (told["no memory"], service.attempts["no memory"]) == ([507, "out_of_memory", "InternalServerError"], 1)
    assert (told["lost"], service.attempts["lost"]) == ([503, "worker_lost", "InternalServerError"], 3)


def test_streams(told: dict[str, Any]) -> None:
    assert told["stream"] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert told["breaks"] == [["image_edit.partial_image"], "out_of_memory", "No memory."]


def test_one_that_goes_away_cancels(told: dict[str, Any], service: Scripted) -> None:
    assert told["left"] == "timeout"
    left = [ticket for ticket in service.accepted if ticket.asked.text.startswith("left")]
    deadline = time.monotonic() + 10
    while any(ticket.state is not State.CANCELLED for ticket in left) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [ticket.state for ticket in left] == [State.CANCELLED] * 4  # the SDK sends what timed out twice more
