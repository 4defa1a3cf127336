"""Where the time of an edit went. Must not import a backend."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall-clock milliseconds per stage, of one picture. Steps are shared: each picture in them reports the whole step.

    `load_ms` opens networks that were not open yet; `prepare_ms` and `finish_ms` are the pictures' own work (decoding,
    scaling, colour), the rest are the networks. `denoise_share_ms` is the picture's share of its steps, by network
    evaluations: over all pictures these are the time that the loop took.
    """

    load_ms: float = 0.0
    prepare_ms: float = 0.0
    text_ms: float = 0.0
    encode_ms: float = 0.0
    denoise_ms: float = 0.0
    decode_ms: float = 0.0
    finish_ms: float = 0.0
    denoise_share_ms: float = 0.0

    @property
    def model_ms(self) -> float:
        """The networks and the loop, without opening files and without codecs."""
        return self.text_ms + self.encode_ms + self.denoise_ms + self.decode_ms

    @property
    def total_ms(self) -> float:
        """All stages."""
        return self.load_ms + self.prepare_ms + self.model_ms + self.finish_ms


class Stopwatch:
    """Collects the stages of one call; a stage inside another is counted once, in the inner one."""

    def __init__(self) -> None:
        self._ms: dict[str, float] = {stage.name: 0.0 for stage in fields(StageTimes)}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as `NAME_ms`."""
        self._charge()
        self._open.append(f"{name}_ms")
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def add(self, name: str, seconds: float) -> None:
        """Count time that was measured elsewhere as `NAME_ms`."""
        self._ms[f"{name}_ms"] += 1000 * seconds

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._ms[self._open[-1]] += 1000 * (now - self._since)
        self._since = now

    def times(self) -> StageTimes:
        """What has been collected so far."""
        return StageTimes(**self._ms)
