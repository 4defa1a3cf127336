"""A worker in a thread, and the front's end of its socket."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pixrt.options.marking import MarkingOptions
from pixrt.options.session import SessionOptions
from pixrt.serve.channel import WorkerEnd
from pixrt.serve.messages import Broke, Check, Checked, Do, Drop, Made, Prepared, Ran, Ready, Setup, State
from pixrt.serve.tickets import Asked, Result
from pixrt.serve.worker import Worker

SECONDS = 60
Message = TypeVar("Message")


def setup_of(
    *, lora_folder: str | None = None, embedding_folder: str | None = None, variants: int = 2, **session: Any
) -> Setup:
    """The model of drawn scenes on one thread."""
    return Setup(
        bundle="shapes",
        session=SessionOptions(**{"backend": "ort-cpu", "threads": 1, "max_batch": 4, "verify": False} | session),
        slots=4,
        most_rows=24,
        lora_folder=lora_folder,
        embedding_folder=embedding_folder,
        variants=variants,
        log_format="text",
        marking=MarkingOptions(),
    )


class Front:
    """See the module. As a context: the worker ends with it. What the worker says and nobody expects yet is kept."""

    worker: Worker

    def __init__(
        self, *, lora_folder: str | None = None, embedding_folder: str | None = None, variants: int = 2, **session: Any
    ) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        self._socket = ours
        self._end = WorkerEnd(ours)
        self._heard: list[Any] = []
        self._setup = setup_of(lora_folder=lora_folder, embedding_folder=embedding_folder, variants=variants, **session)
        self._thread = threading.Thread(target=self._work, args=(theirs,))
        self._thread.start()
        self.ready = self.expect(Ready)

    def _work(self, connection: socket.socket) -> None:
        end = WorkerEnd(connection)
        with connection, end._file, suppress(BrokenPipeError, ConnectionResetError):  # as in `main`
            self.worker = Worker(end, self._setup)
            self.worker.run()

    def expect(self, kind: type[Message], number: int | None = None) -> Message:
        """The first message of this kind, of this picture if one is given."""
        tried = 0
        while True:
            for at, message in enumerate(self._heard[tried:], tried):
                if isinstance(message, kind) and number in (None, getattr(message, "number", None)):
                    del self._heard[at]
                    return message
            tried = len(self._heard)
            message = self._end.receive()
            assert message is not None, "the worker has ended"
            if not isinstance(message, State):
                self._heard.append(message)

    @property
    def unexpected(self) -> list[Any]:
        """What was heard, and nobody has expected."""
        return self._heard

    def send(self, message: object) -> None:
        """Tell the worker something."""
        self._end.send(message)

    def check(self, *numbers: int, asked: Asked) -> list[Checked]:
        """Have pictures checked and prepared."""
        self.send(Check(numbers, (asked,) * len(numbers)))
        checked = [self.expect(Checked, number) for number in numbers]
        for number in numbers:
            self.expect(Prepared, number)
        return checked

    def do(self, kind: Any, *numbers: int, previews: Sequence[int] = ()) -> None:
        """Have the device do something, which must go well."""
        self.send(Do(kind, numbers, tuple(previews)))
        self.expect(Ran)

    def broke(self, kind: Any, *numbers: int) -> Broke:
        """Have the device do something, which must not go well."""
        self.send(Do(kind, numbers))
        return self.expect(Broke)

    def make(self, number: int, asked: Asked) -> Result:
        """A picture by itself, from its check to its file."""
        (checked,) = self.check(number, asked=asked)
        self.do("encode", number)
        for _ in checked.rows:
            self.do("step", number)
        self.do("decode", number)
        return self.expect(Made, number).result

    def drop(self, number: int) -> None:
        """Drop a picture, and wait until the device has done so, which it says to nobody."""
        self.send(Drop(number))
        assert self.broke("encode", number).problem.status == 499

    def require_nothing_kept(self) -> None:
        """The worker keeps nothing of any picture."""
        worker = self.worker
        kept = [worker._asked, worker._requests, worker._variants._pictures]
        for _, device in worker._variants._open.values():
            kept += [device._makings, device._tracks, device._ended]
            kept += [opened.places for opened in device._pools.values()]
        assert not any(kept), kept
        assert self._heard == []

    def leave(self) -> None:
        """The front is gone: the worker ends."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self.require_end()

    def require_end(self) -> None:
        """The worker ends."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._end._file.close()
        self._socket.close()

    def __enter__(self) -> "Front":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
