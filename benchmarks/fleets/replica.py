"""A replica: the server's own dispatcher and admission on one device, in virtual time, as a router sees it."""

from dataclasses import dataclass, field
from enum import StrEnum

from loads.traffic import SLOTS
from pixrt.dispatch.admission import MARGIN
from pixrt.dispatch.costs import Costs
from pixrt.dispatch.simulation import Arrival, Outcome, Simulation, Takes
from pixrt.options.serve import ServeOptions

SEATS = SLOTS + ServeOptions().queue


class State(StrEnum):
    """What a replica is about; only one that is ready answers."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"  # it gets no more, and finishes what it has
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class Request:
    """One of a client, whatever becomes of it.

    Attributes:
        alone: seconds that its picture takes on a device that has nothing else to do.
        tries: replicas that it was sent to.
        outcome: the last one's; None if that one was dead.
    """

    arrival: Arrival
    alone: float
    tries: int = 0
    outcome: Outcome | None = None
    is_given_up: bool = False

    @property
    def is_made(self) -> bool:
        """Whether the client has its picture."""
        return self.outcome is not None and self.outcome.end == self.outcome.end

    @property
    def is_refused(self) -> bool:
        """Whether the client was told that it will have none."""
        return self.is_given_up or (self.outcome is not None and self.outcome.refusal is not None)

    @property
    def latency(self) -> float:
        """Seconds from its first arrival to its picture."""
        assert self.outcome is not None
        return self.outcome.end - self.arrival.at

    @property
    def slowdown(self) -> float:
        """Its latency in times of what it takes alone."""
        return self.latency / self.alone


@dataclass(slots=True, eq=False)
class Replica:
    """See the module. It is paid for from `began` to `ended`."""

    costs: Costs
    began: float
    seats: int = SEATS
    margin: float = MARGIN
    takes: Takes | None = None
    state: State = State.STARTING
    done_by: float = 0.0  # all that it has accepted; what a server calls its backlog, as a point in time
    ended: float = float("inf")
    under_way: list[Request] = field(default_factory=list)
    _simulation: Simulation = field(init=False)

    def __post_init__(self) -> None:
        self._simulation = Simulation(self.costs, seats=self.seats, margin=self.margin, takes=self.takes)

    @property
    def busy(self) -> float:
        """Seconds for which its device has worked."""
        return self._simulation.simulated.busy

    def backlog(self, now: float) -> float:
        """Seconds until all that it has accepted is expected to be done."""
        return max(0.0, self.done_by - now)

    def ask(self, request: Request, now: float) -> None:
        """A request comes; its outcome says what the server's admission said."""
        again = request.arrival if now == request.arrival.at else _later(request.arrival, now)
        self._simulation.go(now)
        request.outcome = self._simulation.arrive(again)
        if request.outcome.refusal is None:
            self.under_way.append(request)
            self.done_by = self._simulation.done_by

    def go(self, now: float = float("inf")) -> None:
        """Go on to that time, or until nothing is left."""
        self._simulation.go(now)
        self.under_way = [request for request in self.under_way if not request.is_made]

    def die(self, now: float) -> list[Request]:
        """It is gone; what it had under way is lost, and comes back."""
        self.go(now)
        lost, self.under_way = self.under_way, []
        for request in lost:
            request.outcome = None
        self.state, self.done_by, self.ended = State.DEAD, now, now
        return lost


def _later(arrival: Arrival, now: float) -> Arrival:
    """The same, asked again: its deadline stays."""
    return Arrival(now, arrival.bucket, arrival.rows, arrival.deadline)
