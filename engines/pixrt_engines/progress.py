"""How far a build is, out of the phases that TensorRT reports, and the way to stop it."""

import threading
from collections.abc import Callable
from typing import Any

from pixrt_engines.library import Library

OnProgress = Callable[[float], None]


class PhaseTree:
    """Phases within phases as one fraction from 0 to 1, which never falls. Its methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[str, tuple[str | None, int]] = {}
        self._done: dict[str, float] = {}
        self._fraction = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins inside its parent."""
        with self._lock:
            self._steps[phase] = parent, max(steps, 1)
            self._done[phase] = 0.0

    def step(self, phase: str, step: int) -> float:
        """The step of that number, from 0, is done. Returns the fraction of the whole."""
        with self._lock:
            self._done[phase] = step + 1
            return self._whole()

    def finish(self, phase: str) -> None:
        """The phase is over, also if not all its steps were reported."""
        with self._lock:
            self._steps.pop(phase, None)
            self._done.pop(phase, None)

    def _whole(self) -> float:
        within = 0.0
        # Inner phases were started last: each adds its part to the step that its parent is in.
        parts: dict[str | None, float] = {}
        for phase, (parent, steps) in reversed(self._steps.items()):
            part = min((self._done[phase] + parts.get(phase, 0.0)) / steps, 1.0)
            parts[parent] = part
            within = part
        self._fraction = max(self._fraction, within)
        return self._fraction


def monitor(library: Library, on_progress: OnProgress, stop: threading.Event) -> Any:
    """An `IProgressMonitor` that tells fractions and ends the build at its next step when `stop` is set."""
    base: Any = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # known when the library is imported
        """Forwards the library's calls to a `PhaseTree`."""

        def __init__(self) -> None:
            base.__init__(self)
            self.tree = PhaseTree()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.tree.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            on_progress(self.tree.step(phase_name, step))
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self.tree.finish(phase_name)

    return Monitor()
