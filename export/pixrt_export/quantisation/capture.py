"""What the UNet sees in real edits: its inputs, captured while pixrt's own loop makes pictures."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext

import numpy as np

from pixrt.backends.host import HostBackend, HostEngine
from pixrt.backends.protocol import Array, NewWeight
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import TENSORS, Component, ComponentSpec
from pixrt.bundles.store import Bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.networks import Networks
from pixrt.editor.device import OpenBundle
from pixrt.editor.events import Failed
from pixrt.editor.run import Run
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import make_requests

# Rows of each edit that are kept, spread over its steps and branches.
ROWS = 15
BACKEND = "ort-cpu"  # what checked the networks
Row = dict[str, Array]
"""The tensors of a call, inputs and outputs; of one row of it, of batch 1."""
OUTPUT = TENSORS[Component.UNET][1][0]
OnEdit = Callable[[int], None]


def capture_rows(bundle: Bundle, jobs: Sequence[Job], on_edit: OnEdit) -> list[list[Row]]:
    """Make the pictures of jobs with an FP32 bundle; what the UNet read and wrote, by job, ROWS rows of each.

    `on_edit` is told the number of each before it begins. Raises PixrtError.
    """
    edits = capture_calls(bundle, jobs, (Component.UNET,), on_edit)
    return [_pick(calls[Component.UNET]) for calls in edits]


def capture_calls(
    bundle: Bundle, jobs: Sequence[Job], components: Collection[Component], on_edit: OnEdit
) -> Iterator[Mapping[Component, Sequence[Row]]]:
    """Every call of these networks while the pictures of jobs are made, job by job. Raises PixrtError."""
    calls: dict[Component, list[Row]] = {component: [] for component in components}
    manifest = bundle.manifest
    plain = open_backend(BACKEND, bundle).backend
    assert isinstance(plain, HostBackend)
    backend = _Recording(plain, calls)
    requests = make_requests(jobs, manifest, Tokenizer(bundle.folder, manifest.tokenizers[0], ()))
    with closing(backend), closing(Networks(bundle, backend)) as networks:
        opened = OpenBundle(manifest, networks, backend.name, tuple, (), nullcontext)
        for number, request in enumerate(requests):
            on_edit(number)
            for each in calls.values():
                each.clear()
            for event in Run(opened, [request], slots=1, steps=False):
                if isinstance(event, Failed):
                    raise event.error
            yield calls


def inputs_of(row: Row) -> Row:
    """What the UNet reads of a row."""
    return {name: values for name, values in row.items() if name != OUTPUT}


def _pick(calls: Sequence[Row]) -> list[Row]:
    """ROWS rows, evenly spaced over the steps, of every branch in turn; all there are if those are fewer."""
    rows = [
        {name: values[row : row + 1] for name, values in call.items()}
        for call in calls
        for row in range(len(call["timestep"]))
    ]
    return [rows[at] for at in np.unique(np.linspace(0, len(rows) - 1, ROWS).round().astype(int))]


class _Recording(HostBackend):
    """A backend on the host; the networks that `calls` names copy there what they read and write."""

    def __init__(self, backend: HostBackend, calls: Mapping[Component, list[Row]]) -> None:
        super().__init__(backend.name, backend.describe())
        self._backend = backend
        self._calls = calls

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> HostEngine:
        """See `Backend.open`."""
        engine = self._backend.open(bundle, component, weights)
        if component not in self._calls:
            return engine
        return _RecordingEngine(engine, bundle.manifest.component(component), self._calls[component])


class _RecordingEngine(HostEngine):
    def __init__(self, engine: HostEngine, spec: ComponentSpec, calls: list[Row]) -> None:
        super().__init__(spec)
        self._engine = engine
        self._calls = calls

    def tie(self, tensors: Mapping[str, Array]) -> Callable[[], None]:
        """See `HostEngine.tie`."""
        run = self._engine.tie(tensors)

        def call() -> None:
            run()
            self._calls.append({name: values.copy() for name, values in tensors.items()})

        return call

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()
