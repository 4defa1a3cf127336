"""All replicas, as the guard of one service sees them: whether there is room, and when there will be."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from pixrt.ray.known import DEPLOYMENT, replicas_of
from pixrt.serve.metrics import Metrics
from pixrt.serve.settings import Settings

_FRESH_SECONDS = 2.0  # what a replica said so long ago does not refuse anybody
_MOST_KNOWN = 10_000


class Floor:
    """What the guard wants of a service (`pixrt.serve.service.Service`)."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.options = settings.options
        self.metrics = metrics
        self.is_draining = False
        self._known: OrderedDict[str, float] = OrderedDict()  # every replica there was, and when it was seen last

    @property
    def names(self) -> list[str]:
        """Replicas that can be asked now."""
        return sorted(self._said)

    @property
    def _said(self) -> Mapping[str, Mapping[str, Any]]:
        said = replicas_of(DEPLOYMENT)
        for name in said:
            self._known[name] = time.monotonic()
            self._known.move_to_end(name)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return said

    def has_known(self, name: str) -> bool:
        """Whether there was such a replica while results of it could still be kept."""
        seen = self._known.get(name)
        return seen is not None and time.monotonic() - seen <= self.options.result_seconds

    @property
    def is_ready(self) -> bool:
        """Whether some replica makes pictures; of one that has not said so yet it is believed."""
        return not self.is_draining and any(each.get("is_ready", True) for each in self._said.values())

    @property
    def why_not_ready(self) -> str:
        """The reason in words; "" if it is ready."""
        if self.is_draining:
            return "the server is shutting down"
        return "" if self.is_ready else "no replica is ready"

    @property
    def free(self) -> int:
        """Seats that are left, as far as it is known: where nobody knows, replicas decide."""
        now, free = time.time(), 0
        for said in self._said.values():
            free += said["free"] if now - said.get("at", 0.0) <= _FRESH_SECONDS else self.options.queue + 1
        return free

    @property
    def retry_after(self) -> int:
        """Seconds until there is expected to be room."""
        return min((said.get("retry_after", 1) for said in self._said.values()), default=5)
