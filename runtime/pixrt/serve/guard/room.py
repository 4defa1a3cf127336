"""What the guard asks of whatever makes pictures behind it. Must not import numpy or Pillow."""

from typing import Protocol

from pixrt.options.serve import ServeOptions
from pixrt.serve.metrics import Metrics


class Room(Protocol):
    """A service, or the gate before several."""

    options: ServeOptions
    metrics: Metrics

    @property
    def is_ready(self) -> bool:
        """Whether pictures are accepted, if there is room."""
        ...

    @property
    def why_not_ready(self) -> str:
        """The reason in words."""
        ...

    @property
    def free(self) -> float:
        """Seats that are left."""
        ...

    @property
    def retry_after(self) -> int:
        """Seconds until there is expected to be room."""
        ...
