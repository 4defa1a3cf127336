"""Pictures on their way through a bundle's networks: the dispatcher says what is next, the device does it.

Must not import a backend.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from traceback import clear_frames
from typing import Self

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Demand
from pixrt.dispatch.dispatcher import Dispatcher, Rules
from pixrt.dispatch.lane import Encode, Step
from pixrt.editor.device import Device, Lost, OpenBundle
from pixrt.editor.events import Event, Failed, Made
from pixrt.errors import Cancelled, OutOfMemory, PixrtError
from pixrt.tasks.requests import Request

_LOG = logging.getLogger("pixrt")  # nothing of a picture or a text goes there


class Run(Iterator[Event]):
    """Makes the pictures of requests; iterate over it for what happens, until none is left. More may be added.

    Requests of one `Work` share network calls, whatever else differs between them; those of another work wait until the
    pool is empty. They begin in the order in which they came. A picture that fails is a `Failed` of its own. Others may
    use the bundle between two events: if its weights are changed meanwhile, pictures on their way are begun again.

    `slots` is the most pictures at once. With `steps` every step is an event, and a device is waited for. For one
    thread at a time, `cancel` excepted; `close` it, or use it as a context, if it may not be iterated to its end.
    """

    def __init__(self, opened: OpenBundle, requests: Iterable[Request], *, slots: int, steps: bool) -> None:
        self._device = Device(opened, slots=slots, waits=steps)
        self._tells_steps = steps
        self._dispatcher = Dispatcher(Costs(), Rules(buckets=1, phased=opened.networks.low_memory))
        self._requests: dict[int, Request] = {}  # of pictures that are not done, by the order in which they came
        self._count = 0
        self._broken: deque[Failed] = deque()  # what cannot even be planned
        self._cancelled: set[int] = set()
        self._round: Iterator[Event] = iter(())
        for request in requests:
            self.add(request)

    def add(self, request: Request) -> None:
        """One more picture, after those that wait already."""
        self._add(self._count, request)
        self._count += 1

    def _add(self, number: int, request: Request) -> None:
        try:
            bucket, rows = self._device.bucket(request)
        except (PixrtError, MemoryError) as error:
            self._broken.append(Failed(request, told(error)))
            return
        self._requests[number] = request
        self._dispatcher.add(Demand(number, bucket, rows, due=float(number)))

    @property
    def waiting(self) -> int:
        """How many pictures have not begun."""
        return self._dispatcher.waiting

    def __next__(self) -> Event:
        try:
            while True:
                for event in self._round:
                    return event
                if not (self._requests or self._broken):
                    break
                self._round = self._advance()
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def cancel(self, index: int) -> None:
        """Stop one picture within a step; it becomes a `Failed` with Cancelled. The others go on. From any thread."""
        self._cancelled.add(index)

    def close(self) -> None:
        """Stop what is left, and give back the pool; with low memory close what is open."""
        self._round = iter(())
        for number in tuple(self._requests):
            self._forget(number)
        self._broken.clear()
        self._device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance(self) -> Iterator[Event]:
        """One thing that the dispatcher says, and what follows from it."""
        while self._broken:
            yield self._broken.popleft()
        yield from self._stop_cancelled()
        started = time.perf_counter()
        action = self._dispatcher.next(started)
        if action is None:
            return
        numbers = [each.demand.id for each in (action.pictures if isinstance(action, Step) else [action.picture])]
        made: Made | None = None
        ended: list[int] = []
        try:
            if isinstance(action, Step):
                ended = self._device.step(numbers)
            elif isinstance(action, Encode):
                self._device.encode(numbers[0], self._requests[numbers[0]])
            else:
                made = Made(self._device.decode(numbers[0]))
        except Lost as lost:
            self._dispatcher.failed()
            self._begin_again(lost)
            return
        except (PixrtError, MemoryError) as error:
            self._dispatcher.failed()
            yield self._failed(numbers[0], error)
            return
        self._dispatcher.ran(time.perf_counter() - started)
        if made is not None:
            del self._requests[numbers[0]]
            result = made.result
            _LOG.debug("picture %d: %d x %d in %.0f ms", made.index, *result.image.size, result.times.total_ms)
            yield made
        elif isinstance(action, Step):
            if self._tells_steps:
                for number in numbers:
                    yield self._device.stepped(number)
            yield from self._leave(ended)

    def _begin_again(self, lost: Lost) -> None:
        for number in lost.numbers:
            bucket = self._dispatcher.progress(number).demand.bucket
            self._dispatcher.remove(number)
            if lost.slots is not None:
                self._dispatcher.limit(bucket, lost.slots)
            del self._requests[number]
            self._add(number, self._device.again(number))

    def _leave(self, ended: list[int]) -> Iterator[Event]:
        """Take out pictures that have ended. The consumer may have changed the weights meanwhile, or closed all."""
        for number in ended:
            try:
                self._device.leave(number)
            except PixrtError as error:
                yield self._failed(number, error)

    def _stop_cancelled(self) -> Iterator[Event]:
        if not self._cancelled:
            return
        for number, request in tuple(self._requests.items()):
            if request.index in self._cancelled:
                progress = self._dispatcher.progress(number)
                error = Cancelled(
                    f"picture {request.index} was cancelled after {progress.at} of {len(progress.demand.rows)} steps",
                    remedy="Ask for it again",
                )
                yield self._failed(number, error)

    def _failed(self, number: int, error: PixrtError | MemoryError) -> Failed:
        request = self._requests[number]
        self._forget(number)
        return Failed(request, told(error))

    def _forget(self, number: int) -> None:
        del self._requests[number]
        self._dispatcher.remove(number)
        self._device.drop(number)


def told(error: PixrtError | MemoryError) -> PixrtError:
    """The error as an event keeps it: running out of memory as one of ours, and nothing of what failed held by it.

    The frames of a traceback keep what their variables name, such as a network on a device, as long as the error lives.
    """
    cause: BaseException | None = error
    while cause is not None:
        clear_frames(cause.__traceback__)
        cause = cause.__cause__
    if isinstance(error, PixrtError):
        return error
    return OutOfMemory(
        "the machine ran out of memory", remedy="Use a smaller --resolution or --max-batch, or --low-memory"
    )
