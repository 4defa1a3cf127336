"""How long the scheduler thinks: before every call of the device, and before every answer to a client.

In time of a core, so that a machine that others use as well says the same.
"""

import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from loads.traffic import poisson
from pixrt.dispatch.admission import Admission, Refusal
from pixrt.dispatch.demand import Demand, due_by
from pixrt.dispatch.dispatcher import Dispatcher
from pixrt.serve.devices import DEVICES

QUEUED = 64
NEXT_MS, FORECAST_MS, REFUSAL_MS = 0.1, 5.0, 25.0


@dataclass(frozen=True)
class Thought:
    """Milliseconds of one kind of decision with 64 pictures, and the limit."""

    name: str
    typical: float
    most: float
    limit: float


def thoughts(mix: str) -> Iterator[Thought]:
    """With 64 pictures of a mix; half of them have a deadline that can be kept."""
    traffic = poisson(DEVICES["a100"], mix, 1.0, 2 * QUEUED, 1)
    drawn = random.Random(1)
    dispatcher = Dispatcher(traffic.costs())
    admission = Admission(dispatcher, QUEUED + 1)
    alone = [dispatcher.costs.alone(arrival.bucket, arrival.rows) for arrival in traffic.arrivals]
    for number, arrival in enumerate(traffic.arrivals[:QUEUED]):
        deadline = 2 * sum(alone) if drawn.random() < 0.5 else None
        due = due_by(0.0, alone[number], deadline)
        admission.hold(1, 0.0)
        admission.admit((Demand(number, arrival.bucket, arrival.rows, due, deadline),), 0.0)
    forecasts = []
    for _ in range(30):
        began = time.process_time()
        dispatcher.forecast(0.0)
        forecasts.append(1000 * (time.process_time() - began))
    yield _thought("forecast", forecasts, FORECAST_MS)
    refusals = []
    for number in range(QUEUED, 2 * QUEUED):
        arrival, deadline = traffic.arrivals[number], drawn.uniform(1.1, 4) * alone[number]
        asked = Demand(number, arrival.bucket, arrival.rows, deadline, deadline)
        began = time.process_time()
        answer = admission.hold(1, 0.0) or admission.admit((asked,), 0.0)
        if isinstance(answer, Refusal):
            refusals.append(1000 * (time.process_time() - began))
        else:
            dispatcher.remove(number)
    yield _thought("refusal of a deadline", refusals, REFUSAL_MS)
    calls = []
    for _ in range(1000):
        began = time.process_time()
        if dispatcher.next(0.0) is None:
            break
        dispatcher.ran(0.05)
        calls.append(1000 * (time.process_time() - began))
    yield _thought("next call of the device", calls, NEXT_MS)


def _thought(name: str, times: list[float], limit: float) -> Thought:
    return Thought(name, statistics.median(times), max(times), limit)
