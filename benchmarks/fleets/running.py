"""A fleet in virtual time: requests, routing, replicas that start, fail and drain. The same seed, the same run.

Replicas are looked at only when something happens to them: between two events a device does what its dispatcher says.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fleets.replica import SEATS, Replica, Request, State
from fleets.routing import ROUTERS
from fleets.scaling import EVERY_S, START_S, Scaler, Scaling
from loads.traffic import Traffic
from pixrt.dispatch.admission import MARGIN
from pixrt.dispatch.simulation import Takes

MOST_TRIES = 3  # of a client: the OpenAI client's


@dataclass(frozen=True, slots=True)
class Failures:
    """Replicas die at random, `every_s` seconds apart on average, each of them; times are seconds.

    Attributes:
        seen_after_s: until the router knows, unless it is refused a connection before: then it asks another one.
        retry_s: after which a client asks again.
        start_s: until another one has taken its place.
    """

    every_s: float
    seen_after_s: float = 2.0
    retry_s: float = 1.0
    start_s: float = START_S


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is to be run. With `scaling` there are `replicas` at first."""

    replicas: int
    router: str = "least-work"
    scaling: Scaling | None = None
    failures: Failures | None = None
    seats: int = SEATS
    margin: float = MARGIN
    takes: Takes | None = None


class Look(NamedTuple):
    """The fleet at one time: replicas that are ready, and that are paid for; seconds of work that they have."""

    at: float
    ready: int
    paid: int
    backlog_s: float


@dataclass(slots=True)
class Ran:
    """What came of it.

    Attributes:
        requests: all that came, in their order.
        replicas: all that there were.
        lost: requests that a replica had accepted when it died, each time; their clients ask again.
        retried: those, and requests that came when there was no replica, each time.
        bounced: requests that were sent to one that was dead, each time, and went to another.
        deaths: replicas that died.
    """

    requests: list[Request]
    replicas: list[Replica]
    looks: list[Look] = field(default_factory=list)
    end: float = 0.0
    lost: int = 0
    retried: int = 0
    bounced: int = 0
    deaths: int = 0


_Kind = Literal["ask", "ready", "die", "seen", "look"]


class _Run:
    """A run under way."""

    def __init__(self, fleet: Fleet, traffic: Traffic, seed: int, stop: Callable[[Request], bool]) -> None:
        self._fleet = fleet
        self._stop = stop
        self._traffic = traffic
        self._costs = traffic.costs()
        self._fails, routes = random.Random(f"{seed} failures"), random.Random(f"{seed} routing")
        self._router = ROUTERS[fleet.router](routes)
        self._scaler = Scaler(fleet.scaling) if fleet.scaling else None
        self._believed: list[Replica] = []  # ready, as far as the router knows
        self._events: list[tuple[float, int, _Kind, Any]] = []
        self._order = itertools.count()
        self._asking = 0  # requests that are still to come, or to come again
        costs = self._costs
        requests = [Request(each, costs.alone(each.bucket, each.rows)) for each in traffic.arrivals]
        self.ran = Ran(requests, [])

    def _at(self, time: float, kind: _Kind, what: Any = None) -> None:
        self._asking += kind == "ask"
        heapq.heappush(self._events, (time, next(self._order), kind, what))

    def run(self) -> Ran:
        for _ in range(self._fleet.replicas):
            self._start(0.0, 0.0)
        if self._scaler is not None:
            self._at(0.0, "look")
        for request in self.ran.requests:
            self._at(request.arrival.at, "ask", request)
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            if kind != "ask" and self._is_over(now):
                break
            getattr(self, f"_{kind}")(now, what)
            if kind == "ask" and self._stop(what):
                break
        for replica in self.ran.replicas:
            if replica.state is not State.DEAD:
                replica.go()
        made = [each.arrival.at + each.latency for each in self.ran.requests if each.is_made]
        self.ran.end = max([*made, *(each.arrival.at for each in self.ran.requests)], default=0.0)
        return self.ran

    def _is_over(self, now: float) -> bool:
        """Whether nobody will ask any more, and nothing is under way that could still be lost."""
        if self._asking:
            return False
        for replica in self.ran.replicas:
            if replica.state is not State.DEAD:
                replica.go(now)
        return not any(replica.under_way for replica in self.ran.replicas)

    def _start(self, now: float, start_s: float) -> None:
        # Each has costs of its own: a dispatcher corrects them.
        costs = self._costs if self._fleet.takes is None else self._traffic.costs()
        fleet = self._fleet
        replica = Replica(costs, now, seats=fleet.seats, margin=fleet.margin, takes=fleet.takes)
        self.ran.replicas.append(replica)
        if start_s:
            self._at(now + start_s, "ready", replica)
        else:
            self._ready(now, replica)

    def _ready(self, now: float, replica: Replica) -> None:
        if replica.state is not State.STARTING:
            return
        replica.state, replica.done_by = State.READY, now
        self._believed.append(replica)
        if self._fleet.failures is not None:
            self._at(now + self._fails.expovariate(1 / self._fleet.failures.every_s), "die", replica)

    def _ask(self, now: float, request: Request) -> None:
        self._asking -= 1
        request.tries += 1
        while self._believed:
            replica = self._router(self._believed, now)
            if replica.state is State.READY:
                replica.ask(request, now)
                return
            self.ran.bounced += 1
            self._seen(now, replica)
        self._again(now, request)

    def _again(self, now: float, request: Request) -> None:
        """A client got a 503."""
        self.ran.retried += 1
        if request.tries >= MOST_TRIES:
            request.is_given_up = True
            return
        self._at(now + (self._fleet.failures or Failures(1)).retry_s, "ask", request)

    def _die(self, now: float, replica: Replica) -> None:
        failures = self._fleet.failures
        assert failures is not None
        if replica.state is State.DRAINING:
            replica.go(now)
            if not replica.under_way:  # it has ended already
                return
        was_ready = replica.state is State.READY
        lost = replica.die(now)
        self.ran.deaths += 1
        self.ran.lost += len(lost)
        for request in lost:
            self._again(now, request)
        if was_ready:
            self._at(now + failures.seen_after_s, "seen", replica)

    def _seen(self, now: float, replica: Replica) -> None:
        """The router knows that it is dead, and another one starts."""
        if replica not in self._believed:  # it was refused a connection
            return
        self._believed.remove(replica)
        assert self._fleet.failures is not None
        self._start(now, self._fleet.failures.start_s)

    def _look(self, now: float, _: None) -> None:
        scaling = self._fleet.scaling
        assert self._scaler is not None
        assert scaling is not None
        starting = [each for each in self.ran.replicas if each.state is State.STARTING]
        ready = [each for each in self._believed if each.state is State.READY]
        backlog = sum(each.backlog(now) for each in ready)
        count = len(self._believed) + len(starting)  # who is dead and not known to be will be replaced
        wanted = self._scaler.look(backlog, count, now)
        for _more in range(wanted - count):
            self._start(now, scaling.start_s)
        for replica in _first_to_go(starting, ready, now)[: count - wanted] if wanted < count else ():
            if replica.state is State.READY:
                self._believed.remove(replica)
            replica.state, replica.ended = State.DRAINING, max(now, replica.done_by)
        paid = sum(each.state is not State.DEAD and each.ended > now for each in self.ran.replicas)
        self.ran.looks.append(Look(now, len(ready), paid, backlog))
        self._at(now + EVERY_S, "look")


def _first_to_go(starting: Sequence[Replica], ready: Sequence[Replica], now: float) -> list[Replica]:
    """Those that start, the last first; then those that have least to do."""
    return [*reversed(starting), *sorted(ready, key=lambda each: each.backlog(now))]


def run(fleet: Fleet, traffic: Traffic, seed: int = 0, stop: Callable[[Request], bool] = lambda _: False) -> Ran:
    """Let the traffic come to the fleet, and go on until all is done.

    `stop` is asked after each request was sent: nobody else comes once it says so.
    """
    return _Run(fleet, traffic, seed, stop).run()
