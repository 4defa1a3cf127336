"""Admission: whether a device takes on a picture, decided at once, from the forecast of when it would be done.

Must not import anything but the standard library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pixrt.dispatch.demand import Demand
from pixrt.dispatch.dispatcher import Dispatcher, Span

Reason = Literal["full", "late", "others"]

MARGIN = 0.05  # of the time until a picture's expected end: so much later it may well be


@dataclass(frozen=True, slots=True)
class Refusal:
    """Pictures that are not taken on.

    Attributes:
        reason: `full`: no seat is left; `late`: their deadline would be missed; `others`: that of one already accepted.
        retry_after: seconds after which they would be accepted, if nothing else came meanwhile; None for never: more
            seats than there are, or a deadline too near even for a device that has nothing else to do.
        end: when the last of them would be done, if they were taken on; None where that is not known.
    """

    reason: Reason
    retry_after: float | None
    end: float | None = None


class Admission:
    """The way into a dispatcher, for all who share it. `seats` is how many pictures it takes care of at once.

    A seat is held (`hold`) before it is known what a picture asks of the device, and given back (`release`) if it turns
    out to be none; `admit` decides once that is known. It ends with its picture: nobody has to give it back then.
    """

    def __init__(self, dispatcher: Dispatcher, seats: int, margin: float = MARGIN) -> None:
        self.seats = seats
        self.margin = margin
        self._dispatcher = dispatcher
        self._held = 0

    @property
    def free(self) -> int:
        """Seats that are left."""
        return max(0, self.seats - self._held - len(self._dispatcher))

    def hold(self, count: int, now: float) -> Refusal | None:
        """Take seats for pictures that are asked for together, all or none."""
        if count > self.free:
            return Refusal("full", self.wait(count, now))
        self._held += count
        return None

    def release(self, count: int) -> None:
        """Give seats back that were held."""
        self._held -= count

    def wait(self, count: int, now: float) -> float | None:
        """Seconds until so many seats are expected to be free; None for never."""
        if count > self.seats:
            return None
        missing = count - self.free
        if missing <= 0:
            return 0.0
        ends = sorted(span.end for span in self._dispatcher.forecast(now).values())
        return max(0.0, ends[min(missing, len(ends)) - 1] - now) if ends else 0.0

    def admit(self, demands: Sequence[Demand], now: float, *, ready: bool = True) -> tuple[Span, ...] | Refusal:
        """Add pictures whose seats are held to the dispatcher, all or none; when each is expected to begin and to end.

        `ready`: see `Dispatcher.add`.

        They are refused if one would miss its deadline, or make a picture that was accepted miss its own. Their seats
        are free again then.
        """
        spans = self._dispatcher.forecast(now, tuple(demands))
        self._held -= len(demands)
        late = self._late(demands, spans, now)
        if late is not None:
            end = max(spans[demand.id].end for demand in demands)
            return Refusal(late, self._retry(demands, now), end)
        for demand in demands:
            self._dispatcher.add(demand, ready=ready)
        return tuple(spans[demand.id] for demand in demands)

    def _late(self, demands: Sequence[Demand], spans: Mapping[int, Span], now: float) -> Reason | None:
        """Whose deadline is missed with these pictures in it, if one is."""
        if any(self._misses(demand, spans[demand.id], now) for demand in demands):
            return "late"
        new = {demand.id for demand in demands}
        missed = [
            id for id in spans if id not in new and self._misses(self._dispatcher.progress(id).demand, spans[id], now)
        ]
        if not missed:
            return None
        # What is late anyway, because the device was slower than expected, is nobody's fault but the device's.
        without = self._dispatcher.forecast(now)
        return "others" if any(spans[id].end > without[id].end for id in missed) else None

    def _misses(self, demand: Demand, span: Span, now: float) -> bool:
        return demand.deadline is not None and span.end + self.margin * (span.end - now) > demand.deadline

    def _retry(self, demands: Sequence[Demand], now: float) -> float | None:
        """Seconds until they would be accepted with deadlines that are as far away then as they are now."""
        costs = self._dispatcher.costs
        alone = sum(costs.alone_of(demand) for demand in demands)
        nearest = min((demand.deadline - now for demand in demands if demand.deadline is not None), default=None)
        if nearest is not None and alone * (1 + self.margin) > nearest:
            return None
        return max((span.end for span in self._dispatcher.forecast(now).values()), default=now) - now
