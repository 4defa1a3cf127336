"""The worker: a process that owns the device and does, one thing after the other, what the front's dispatcher says.

Codecs run beside the device in threads. It ends if the front does: `python -m pixrt.serve.worker SOCKET`.
"""

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pixrt.editor.device import Lost
from pixrt.editor.result import EditResult
from pixrt.editor.run import told
from pixrt.errors import BackendError, DeviceLost, OptionError, PictureError, PixrtError
from pixrt.pictures.codecs import read_parameters
from pixrt.pictures.marking import Marking
from pixrt.serve.channel import WorkerEnd
from pixrt.serve.inputs import job_of
from pixrt.serve.logs import configure, tell
from pixrt.serve.memory import keep_memory, settle
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
    Setup,
    Unusable,
)
from pixrt.serve.problems import Problem
from pixrt.serve.reports import model_of, state_of
from pixrt.serve.results import preview_of, result_of
from pixrt.serve.statuses import FAULT, problem_of
from pixrt.serve.tickets import Asked
from pixrt.serve.variants import Variants, lora_names
from pixrt.serve.warming import warm_codecs, warm_up
from pixrt.tasks.requests import Request

if TYPE_CHECKING:
    from PIL import Image

_CODECS = 2  # threads
_PREPARED_BYTES = 512 << 20  # decoded pictures that wait; beyond it they are decoded when their turn comes
_STATE_SECONDS = 1.0
_PREVIEW_SIDE = 1024
_SWITCH_SECONDS = 0.0005  # in which the device's thread gets its turn back from a codec; Python's own is ten times that


class Worker:
    """See the module. One thread receives, some do codecs, and `run` is the device's."""

    def __init__(self, end: WorkerEnd, setup: Setup) -> None:
        self._end = end
        self._setup = setup
        self._variants = Variants(setup)
        self._marking = Marking.of(setup.marking)
        self._manifest = self._variants.own.manifest
        self._orders: queue.SimpleQueue[Do | Drop | None] = queue.SimpleQueue()
        self._codecs = ThreadPoolExecutor(_CODECS, "codec")
        self._lock = threading.Lock()
        self._asked: dict[int, Asked] = {}  # of pictures that nobody has dropped
        self._requests: dict[int, Request] = {}
        self._told = 0.0
        warm_codecs()
        bucket, steps, stages = warm_up(self._variants.own, self._variants.device(()))
        end.send(Ready(model_of(self._variants.own, lora_names(self._setup.lora_folder)), bucket, steps, stages))

    def run(self) -> None:
        """Do what comes until the front is gone."""
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        while (order := self._orders.get()) is not None:
            if isinstance(order, Drop):
                self._drop(order.number)
            else:
                self._do(order)
            if time.monotonic() - self._told > _STATE_SECONDS:
                self._end.send(state_of(self._variants))
                self._told = time.monotonic()
        self._codecs.shutdown(cancel_futures=True)
        self._variants.close()

    def _receive(self) -> None:
        try:
            while (message := self._end.receive()) is not None:
                if isinstance(message, Check):
                    with self._lock:
                        self._asked.update(zip(message.numbers, message.asked, strict=True))
                    for number in message.numbers:
                        self._codecs.submit(self._alone, self._check, number)
                elif isinstance(message, Read):
                    self._codecs.submit(self._alone, self._read, message.number, message.picture)
                else:
                    if isinstance(message, Drop):
                        self._forget(message.number)  # at once: the device may be busy for a while
                    self._orders.put(message)
        finally:  # also if memory runs out: who hears nothing any more must end
            self._orders.put(None)

    def _forget(self, number: int) -> Asked | None:
        """What was asked for, if nobody has dropped it."""
        with self._lock:
            self._requests.pop(number, None)
            return self._asked.pop(number, None)

    def _alone(self, work: Callable[..., None], number: int, *rest: Any) -> None:
        """Do a picture's work in this thread; whatever fails is told as that picture's."""
        try:
            work(number, *rest)
        except Exception as error:
            self._broke(number, error)

    def _broke(self, number: int, error: Exception, *, was_done: bool = False) -> None:
        self._forget(number)
        self._end.send(Broke(number, _problem(error), was_done))

    def _check(self, number: int) -> None:
        """Look at headers, texts and options; then decode, if there is memory for one more that waits."""
        with self._lock:
            asked = self._asked.get(number)
        if asked is None:
            return
        editor, has_loras = self._variants.own, bool(asked.loras)
        (request,) = editor.check([job_of(asked)], has_loras=has_loras)
        bucket, rows = self._variants.device(()).bucket(request, asked.loras)
        with self._lock:
            if number not in self._asked:
                return
            self._requests[number] = request
            held = sum(_bytes(each) for each in self._requests.values())
        self._end.send(Checked(number, bucket, rows))
        if held < _PREPARED_BYTES:
            prepared = request.prepare(self._manifest, {})
            with self._lock:
                if number in self._asked:
                    self._requests[number] = replace(request, prepared=prepared)
        self._end.send(Prepared(number))

    def _read(self, number: int, picture: bytes) -> None:
        self._end.send(Found(number, read_parameters(picture)))

    def _do(self, order: Do) -> None:
        numbers, made = order.numbers, None
        began = time.perf_counter()
        try:
            if order.kind == "step":
                self._step(order)
            elif order.kind == "encode":
                self._encode(numbers[0])
            else:
                made = self._decode(numbers[0])
        except Lost as lost:
            self._lost(lost)
        except DeviceLost:
            raise  # a new worker may find it again
        except Exception as error:
            device = self._variants.of(numbers[0])
            if device is not None:
                device.drop(numbers[0])
            self._variants.leave(numbers[0])
            self._broke(numbers[0], error, was_done=True)
        else:
            self._end.send(Ran(time.perf_counter() - began))
        if made is not None:
            self._codecs.submit(self._alone, self._write, numbers[0], *made)

    def _encode(self, number: int) -> None:
        with self._lock:
            asked, request = self._asked.get(number), self._requests.get(number)
        if asked is None or request is None:
            raise Problem(499, "cancelled", "The picture was dropped before it began.")
        self._variants.take(number, asked.loras).encode(number, request)

    def _step(self, order: Do) -> None:
        device = self._variants.of(order.numbers[0])
        assert device is not None
        ended = device.step(order.numbers)
        for number in order.previews:
            stepped = device.stepped(number)
            with _without_harm():
                self._codecs.submit(self._preview, number, stepped.step, stepped.preview())
        for number in ended:
            device.leave(number)

    def _decode(self, number: int) -> tuple[Asked, EditResult] | None:
        """A picture that is to be written; None if it was dropped."""
        device = self._variants.of(number)
        assert device is not None
        result = device.decode(number)
        self._variants.leave(number)
        asked = self._forget(number)
        return None if asked is None else (asked, result)

    def _lost(self, lost: Lost) -> None:
        demands = {}
        for number in lost.numbers:
            device = self._variants.of(number)
            assert device is not None
            request, loras = device.again(number), self._variants.leave(number)
            with self._lock:
                if number in self._asked:
                    self._requests[number] = request
            demands[number] = device.bucket(request, loras)
        self._end.send(LostPlaces(tuple(lost.numbers), lost.slots, demands))

    def _drop(self, number: int) -> None:
        device = self._variants.of(number)
        if device is not None:
            device.drop(number)
            self._variants.leave(number)

    def _preview(self, number: int, step: int, image: "Image.Image") -> None:
        with self._lock:
            request = self._requests.get(number)
        if request is not None:
            with _without_harm():
                self._end.send(Preview(number, step, preview_of(image, request, self._manifest.latents.scale)))

    def _write(self, number: int, asked: Asked, result: EditResult) -> None:
        self._end.send(Made(number, result_of(asked, result, self._marking)))


@contextmanager
def _without_harm() -> Iterator[None]:
    """A picture whose preview fails goes on."""
    try:
        yield
    except Exception as error:
        tell("a preview failed", level=logging.WARNING, error=error)


def _bytes(request: Request) -> int:
    """What is decoded of a request."""
    ready = request.prepared
    if ready is None:
        return 0
    arrays = (ready.pixels, ready.style, ready.mask, ready.under, ready.full, ready.opacity, ready.alpha)
    return sum(each.nbytes for each in arrays if each is not None)


def _problem(error: Exception) -> Problem:
    """What a client is told. Of what is the server's own fault the log tells more, without anything of a client's."""
    if isinstance(error, Problem):
        return error
    if not isinstance(error, OptionError | PictureError):  # neither the client's parameters nor its pictures
        facts = {"problem": error.problem} if isinstance(error, BackendError) else {}
        tell("a picture failed", facts, level=logging.ERROR, error=error)
    if isinstance(error, PixrtError | MemoryError):
        return problem_of(told(error))
    return Problem(500, "internal_error", FAULT)


def main() -> None:
    """Serve the front at the other end of the socket whose number is the first argument."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    keep_memory()
    for number in (signal.SIGINT, signal.SIGTERM):  # the front decides when it ends
        signal.signal(number, signal.SIG_IGN)
    end = WorkerEnd(socket.socket(fileno=int(sys.argv[1])))
    setup = end.receive()
    if setup is None:
        return
    configure(setup.log_format)
    try:
        worker = Worker(end, setup)
    except PixrtError as error:
        end.send(Unusable(error.problem, error.remedy, error.exit_code))
        return
    settle()
    try:
        worker.run()
    except (BrokenPipeError, ConnectionResetError):  # the front is gone
        return
    except DeviceLost as error:
        tell("the device is lost", {"problem": error.problem}, level=logging.ERROR)
        os._exit(error.exit_code)  # whatever else there is to close would ask the device


if __name__ == "__main__":
    main()
