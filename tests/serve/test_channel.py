"""What may come through the channel, and what may not."""

import asyncio
import os
import pickle
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixrt.dispatch.demand import Bucket
from pixrt.options.tasks import EditOptions, GenerateOptions
from pixrt.serve.channel import FrontEnd, WorkerEnd
from pixrt.serve.messages import Broke, Check, Checked, Do, Kept, Made, State
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Asked, Output, RawPicture, Result
from serving import MODEL

ASKED = Asked(
    options=EditOptions(steps=3), text="x", image=b"a" * 100_000, mask=RawPicture(b"abc", 1, 1), loras=(("a", 1.0),)
)
MESSAGES = [
    Check((1, 2), (ASKED, replace(ASKED, options=GenerateOptions(seed=2)))),
    Checked(1, Bucket(("unet", (8, 8), None), 4, 12, 64.0, (("a", 1.0),), "64x64"), (3, 3)),
    Made(1, Result(b"p" * 100_000, Output("jpeg", 80), (8, 8), {"a": None}, {"text_ms": 1.0}, "null")),
    State({"sources": Kept(1, 2, 3, 4)}, {"weights": 5}, ((), (("a", 1.0),))),
    MODEL,
    Do("step", (1, 2), (2,)),
    {"a": {1}, "b": Path("x")},
]


class _Says:
    """What a worker would say that a picture has broken into."""

    def __init__(self, call: Any, *given: Any) -> None:
        self._call = call, given

    def __reduce__(self) -> Any:
        return self._call


def _named(module: str, name: str) -> bytes:
    """A pickle of whatever a module has by this name."""
    words = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + words + b"\x93."


EVIL = [
    pickle.dumps(_Says(os.system, "exit 1")),
    pickle.dumps(_Says(eval, "1")),
    pickle.dumps(_Says(subprocess.Popen, "true")),
    _named("pixrt.serve.supervisor", "os.system"),
    _named("pixrt.serve.supervisor", "subprocess"),
    _named("pixrt.serve.supervisor", "os"),
    _named("pixrt.serve.supervisor", "WorkerProcess"),
    _named("pixrt.serve.server", "serve"),
    _named("pixrt.serve.tickets", "dataclass"),
    _named("pixrt.serve.worker", "Check"),  # a message, but not from where it is
    _named("pixrtx", "y"),
    _named("builtins", "getattr"),
    pickle.dumps(Problem(400, "c", "m"))[:-10],
    b"",
    b"no pickle",
]


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    theirs.settimeout(20)
    return ours, theirs


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_both_ways(message: object) -> None:
    async def there_and_back() -> object:
        ours, theirs = pair()
        with theirs:
            end, front = WorkerEnd(theirs), await FrontEnd.over(ours)
            front.send(message)
            end.send(await asyncio.to_thread(end.receive))
            answer = await front.receive()
            front.close()
            end._file.close()
            return answer

    assert asyncio.run(there_and_back()) == message


def test_a_problem_stays_what_it_is() -> None:
    ours, theirs = pair()
    with ours, theirs:
        one, other = WorkerEnd(ours), WorkerEnd(theirs)
        one.send(Broke(1, Problem(429, "full", "words", "n", 3), True))
        broke = other.receive()
        assert (broke.number, broke.was_done) == (1, True)
        assert vars(broke.problem) == vars(Problem(429, "full", "words", "n", 3))
        one._file.close()
        other._file.close()


def test_pictures_of_one_request_share_its_file() -> None:
    ours, theirs = pair()
    with ours, theirs:
        one, other = WorkerEnd(ours), WorkerEnd(theirs)
        one.send(Check((1, 2, 3), (ASKED, ASKED, replace(ASKED, text="y"))))
        first, *others = other.receive().asked
        assert all(each.image is first.image for each in others)
        one._file.close()
        other._file.close()


@pytest.mark.parametrize("data", EVIL, ids=range(len(EVIL)))
def test_nothing_else_comes_through(data: bytes) -> None:
    async def receive() -> object:
        ours, theirs = pair()
        with theirs:
            front = await FrontEnd.over(ours)
            theirs.sendall(len(data).to_bytes(8, "little") + data)
            try:
                return await front.receive()
            finally:
                front.close()

    with pytest.raises((pickle.UnpicklingError, EOFError, AttributeError, ModuleNotFoundError)):
        asyncio.run(receive())


def test_an_end_that_is_gone() -> None:
    async def speak() -> None:
        ours, theirs = pair()
        front = await FrontEnd.over(ours)
        theirs.close()
        for _ in range(20):  # the transport notices, and is closed
            front.send(Do("step", (1,)))
            await asyncio.sleep(0)
        assert await front.receive() is None
        front.close()
        front.send(Do("step", (1,)))

    asyncio.run(speak())
