"""A shift, and a worker of which nothing happens but what a test says: its codecs in any order, its device in order.

What it says is what the real one would, and it objects to an order that the real one could not follow.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest.mock import patch

from pixrt.dispatch.costs import Costs
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.dispatcher import Rules
from pixrt.options.tasks import EditOptions
from pixrt.serve import messages as say
from pixrt.serve import shift as module
from pixrt.serve.metrics import Metrics
from pixrt.serve.problems import Problem
from pixrt.serve.shelf import Shelf
from pixrt.serve.shift import Shift
from pixrt.serve.supervisor import WorkerProcess
from pixrt.serve.tickets import Asked, Output, Result, Ticket

SLOTS, SEATS = 3, 6
ROWS = 3
STEP_SECONDS, STAGE_SECONDS = 0.1, 0.05
BAD_FILE = Problem(400, "invalid_image", "The picture cannot be decoded.", "image")
NO_MEMORY = Problem(507, "out_of_memory", "The device has no memory for it.")
DIED = Problem(503, "worker_lost", "The worker has ended.", retry_after=3)
CLIENT = "addr:test"


def bucket(name: str = "small", loras: say.Loras = ()) -> Bucket:
    """Where pictures of a size are together."""
    return Bucket(name, SLOTS, ROWS * SLOTS, variant=loras, name=name)


def asks(text: str = "small", *, steps: int = 2, **said: Any) -> Asked:
    """A picture of so many steps, its text the name of its bucket."""
    return Asked(options=EditOptions(steps=steps, seed=1), text=text, image=b"a picture", **said)


class Clock:
    """Time that passes if a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds from some point on."""
        return self.now

    def time(self) -> float:
        """Unix seconds."""
        return 1_790_000_000 + self.now


class Counted(Metrics):
    """The server's, which remember the tickets."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[Ticket] = []
        self.over: list[Ticket] = []

    def accepted(self, ticket: Ticket) -> None:
        """See `Metrics`."""
        super().accepted(ticket)
        self.begun.append(ticket)

    def ended(self, ticket: Ticket) -> None:
        """See `Metrics`."""
        super().ended(ticket)
        self.over.append(ticket)


@dataclass
class FakeWorker:
    """See the module. `codecs` and `orders` are what it has to do."""

    shift: Shift = field(init=False)
    sent: list[say.ToWorker] = field(default_factory=list)
    codecs: list[tuple[str, int, int]] = field(default_factory=list)
    orders: deque[say.Do | say.Drop] = field(default_factory=deque)
    _asked: dict[int, Asked] = field(default_factory=dict)
    _said: dict[int, Asked] = field(default_factory=dict)  # also of what was dropped
    _prepared: set[int] = field(default_factory=set)
    _slots: dict[Bucket, int] = field(default_factory=dict)
    _at: dict[int, int] = field(default_factory=dict)  # steps that pictures on the device have made

    def send(self, message: say.ToWorker) -> None:
        """The front says something."""
        self.sent.append(message)
        if isinstance(message, say.Check):
            self._asked.update(zip(message.numbers, message.asked, strict=True))
            self._said.update(self._asked)
            self.codecs += [("check", number, 0) for number in message.numbers]
        elif isinstance(message, say.Read):
            self.codecs.append(("read", message.number, 0))
        elif isinstance(message, say.Drop):
            self._asked.pop(message.number, None)
            self.orders.append(message)
        else:
            assert isinstance(message, say.Do)
            assert not any(isinstance(order, say.Do) for order in self.orders)
            self.orders.append(message)

    @property
    def is_empty(self) -> bool:
        """Whether it keeps nothing of anybody."""
        return not (self._asked or self._at)

    def codec(self, place: int = 0, problem: Problem | None = None) -> None:
        """A codec has done one of its things, or could not."""
        kind, number, step = self.codecs.pop(place)
        if kind == "preview":
            self.shift.heard(say.Preview(number, step, b"a preview"))
        elif kind == "read" and problem is None:
            self.shift.heard(say.Found(number, {"number": number}))
        elif kind in ("check", "prepare") and number not in self._asked:
            if kind == "prepare":
                self.shift.heard(say.Prepared(number))
        elif problem is not None:
            self._asked.pop(number, None)
            self.shift.heard(say.Broke(number, replace(problem)))
        elif kind == "check":
            self.codecs.append(("prepare", number, 0))
            self.shift.heard(say.Checked(number, *self._demand(number)))
        elif kind == "prepare":
            self._prepared.add(number)
            self.shift.heard(say.Prepared(number))
        else:
            result = Result(b"made", Output(), (64, 64), {}, {"denoise_ms": 1.0}, "fake")
            self.shift.heard(say.Made(number, result))

    def device(self, problem: Problem | None = None, seconds: float = 0.01, slots: int | None = 1) -> None:
        """The device has done its next thing, or could not."""
        order = self.orders.popleft()
        if isinstance(order, say.Drop):
            self._at.pop(order.number, None)
            return
        number = order.numbers[0]
        if order.kind == "encode":
            assert number in self._prepared
            assert number not in self._at
            ours = self._demand(number)[0]
            inside = sum(self._demand(each)[0] == ours for each in self._at)
            assert inside < self._slots.get(ours, SLOTS), "there is no place for it"
            if number not in self._asked:
                problem = Problem(499, "cancelled", "It was dropped.")
            elif problem is None:
                self._at[number] = 0
        elif order.kind == "step":
            assert all(self._at[each] < len(self._demand(each)[1]) for each in order.numbers)
            if problem is not None and len(order.numbers) > 1:
                self._lose(order.numbers, slots)
                return
            for each in order.numbers if problem is None else ():
                self._at[each] += 1
            self.codecs += [("preview", each, self._at[each]) for each in order.previews if problem is None]
        else:
            assert self._at[number] == len(self._demand(number)[1])
            if problem is None:
                del self._at[number]
                if self._asked.pop(number, None) is not None:
                    self.codecs.append(("write", number, 0))
        if problem is None:
            self.shift.heard(say.Ran(seconds))
        else:
            self._at.pop(number, None)
            self._asked.pop(number, None)
            self.shift.heard(say.Broke(number, replace(problem), was_done=True))

    def _lose(self, numbers: tuple[int, ...], slots: int | None) -> None:
        """Those in the pool of these pictures begin again."""
        ours, _ = self._demand(numbers[0])
        steps = {number: len(self._demand(number)[1]) for number in self._at}
        lost = [
            number
            for number, at in self._at.items()
            if self._demand(number)[0] == ours and (number in numbers or 0 < at < steps[number])
        ]
        for number in lost:
            del self._at[number]
        if slots is not None:
            self._slots[ours] = slots
        self.shift.heard(say.LostPlaces(tuple(lost), slots, {number: self._demand(number) for number in lost}))

    def _demand(self, number: int) -> tuple[Bucket, tuple[int, ...]]:
        asked = self._said[number]
        return bucket(asked.text, asked.loras), (ROWS,) * asked.options.steps


class Scene:
    """A shift with its worker and its clock; as a context, for `pixrt.serve.shift` has this clock in it."""

    def __init__(self, seats: int = SEATS) -> None:
        costs = Costs()
        costs.measured(
            bucket(),
            {ROWS: STEP_SECONDS, ROWS * SLOTS: STEP_SECONDS * 1.2},
            {"encode": STAGE_SECONDS, "decode": STAGE_SECONDS},
        )
        self.clock, self.worker, self.metrics, self.shelf = Clock(), FakeWorker(), Counted(), Shelf(600, 1 << 20)
        process = cast(WorkerProcess, self.worker)
        rules = Rules(buckets=2, variants=1)
        self.shift = self.worker.shift = Shift(process, costs, rules, seats, self.metrics, self.shelf)
        self._patch = patch.object(module, "time", self.clock)

    def __enter__(self) -> "Scene":
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def die(self) -> None:
        """The worker is gone, with all that it had to do."""
        self.shift.end(DIED)
        self.worker.codecs.clear()
        self.worker.orders.clear()
        self.worker._asked.clear()
        self.worker._at.clear()
        self.shift._doing = self.shift.dispatcher._running = None

    def require_nothing_left(self) -> None:
        """All seats are free, and nothing of any picture is kept."""
        shift, dispatcher = self.shift, self.shift.dispatcher
        assert shift.admission.free == shift.admission.seats
        kept = (shift.tickets, shift._checks, shift._readings, shift._prepared, shift._beside, shift._doing)
        assert not any(kept), kept
        assert self.worker.is_empty
        held = (dispatcher._pictures, dispatcher._begun, dispatcher._lanes, dispatcher._running)
        assert not any(held), held
        assert [ticket.id for ticket in self.metrics.begun if ticket not in self.metrics.over] == []
        assert len(self.metrics.over) == len({ticket.id for ticket in self.metrics.over})
