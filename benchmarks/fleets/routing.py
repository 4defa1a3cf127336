"""Which replica a request goes to."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fleets.replica import Replica


class Router(Protocol):
    """Chooses one of those that it believes to be ready; there is one at least."""

    def __call__(self, replicas: Sequence[Replica], now: float) -> Replica: ...


def least_work(drawn: random.Random) -> Router:
    """Least predicted work: the one that says that all it has will be done first. Of idle ones the longest idle."""
    return lambda replicas, now: min(replicas, key=lambda each: each.done_by)


def round_robin(drawn: random.Random) -> Router:
    """In turn."""
    turn = 0

    def choose(replicas: Sequence[Replica], now: float) -> Replica:
        nonlocal turn
        turn += 1
        return replicas[(turn - 1) % len(replicas)]

    return choose


def random_of_two(drawn: random.Random) -> Router:
    """The one of two random ones that has less predicted work (Mitzenmacher 2001)."""

    def choose(replicas: Sequence[Replica], now: float) -> Replica:
        one, other = replicas[drawn.randrange(len(replicas))], replicas[drawn.randrange(len(replicas))]
        return min(one, other, key=lambda each: each.backlog(now))

    return choose


ROUTERS: Mapping[str, Callable[[random.Random], Router]] = {
    "least-work": least_work,
    "round-robin": round_robin,
    "random-of-two": random_of_two,
}
