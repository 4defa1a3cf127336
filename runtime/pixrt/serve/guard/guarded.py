"""What the guard wants to know of what is behind it. Must not import numpy or Pillow."""

from typing import Protocol

from pixrt.options.serve import ServeOptions
from pixrt.serve.metrics import Metrics


class Guarded(Protocol):
    """One service, or a floor of them (`pixrt.serve.service.Service`, `pixrt.ray.floor.Floor`)."""

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
    def free(self) -> int:
        """Seats that are left."""
        ...

    @property
    def retry_after(self) -> int:
        """Seconds until there is expected to be room."""
        ...
