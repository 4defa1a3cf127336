"""ONNX Runtime's CUDA provider behind the `Backend` protocol, on memory of the device and on its stream.

Networks read and write where the calls and loops of `backends/cuda` have their memory; nothing waits for a run. The
provider keeps what it captures by thread, so everything of a session is done in the device's.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np

from pixrt.backends.cuda.calls import DeviceCall, DeviceLoop, Shapes
from pixrt.backends.cuda.device import Device, Memory
from pixrt.backends.cuda.held import HeldArrays
from pixrt.backends.ort.session import VERSION, open_session, run_error, run_options
from pixrt.backends.protocol import (
    Array,
    BoundCall,
    BoundLoop,
    CanLoop,
    EngineMemory,
    LoopLayout,
    NewWeight,
    TellsMemory,
    check_binding,
)
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError

PROVIDER = "CUDAExecutionProvider"
# A session keeps every graph that it has captured until it is closed. What is bound after so many runs without.
MOST_GRAPHS = 16
_UNCAPTURED = "-1"  # a graph's id that means: as it is


class OrtCudaBackend(TellsMemory):
    """The provider on one device. `graphs` has it capture what a run enqueues into a CUDA graph of its own.

    Raises BackendError where there is no such device.
    """

    prefers_fused_step = True

    def __init__(self, name: str, threads: int | None, settings: Mapping[str, str], *, graphs: bool = True) -> None:
        self.name = name
        self.graphs = graphs
        self.ordinal = int(settings.get("device_id", "0"))
        self.device = Device(self.ordinal)
        self.held = HeldArrays(self.device)
        self.networks: WeakSet[OrtNetwork] = WeakSet()
        self._threads = threads
        self._settings = {**settings, "user_compute_stream": str(self.device.stream)}

    def describe(self) -> str:
        """The library, the device and the driver."""
        device = self.device
        free, total = device.memory()
        major, minor = device.capability
        return (
            f"onnxruntime {VERSION} on {device.name} (sm{major}{minor}), CUDA driver {device.driver_version},"
            f" {free / 2**20:.0f} of {total / 2**20:.0f} MiB free"
        )

    def problem(self, bundle: Bundle, component: Component, *, refit: bool = False) -> str | None:
        """See `Backend.problem`: other weights are taken when a network is opened."""
        return None if component in bundle.manifest.components else f"the bundle has no {component}"

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> "OrtCudaEngine":
        """See `Backend.open`."""
        given = list(weights)

        def open_(**extra: str) -> Any:
            settings = {**self._settings, **extra}
            return open_session(bundle, component, given, provider=PROVIDER, settings=settings, threads=self._threads)

        spec = bundle.manifest.component(component)
        return OrtCudaEngine(self, spec, self.device.run(OrtNetwork, self, spec, open_))

    def memory(self) -> tuple[EngineMemory, ...]:
        """See `TellsMemory`."""
        return tuple(sorted((network.memory() for network in self.networks), key=lambda memory: memory.name))

    def close(self) -> None:
        """Give the device back."""
        self.held.clear()
        self.device.close()


class OrtNetwork:
    """A session. Each of its executions holds it, so it goes after the last of their bindings."""

    def __init__(self, owner: OrtCudaBackend, spec: ComponentSpec, open_: Callable[..., Any]) -> None:
        self.owner = owner
        self.spec = spec
        self.scratch_bytes = 0
        self.executions: WeakSet[OrtExecution] = WeakSet()
        self._graphs_left = MOST_GRAPHS if owner.graphs else 0
        free, _ = owner.device.memory()
        try:
            self.session: Any = open_(enable_cuda_graph="True") if owner.graphs else open_()
        except BackendError as error:
            if not owner.graphs:
                raise
            # It refuses where a part of the network runs on the CPU.
            self.session = open_()
            self._graphs_left = 0
            warnings.warn(f"no CUDA graph can be captured, steps are slower without: {error.problem}", stacklevel=1)
        self._weights_bytes = free - owner.device.memory()[0]
        owner.networks.add(self)

    def __del__(self) -> None:
        if hasattr(self, "session"):
            self.owner.device.drop(_Dropped(self.session))

    def next_graph(self) -> str:
        """An id under which a run is captured, each given once: a graph has the addresses that it was captured with."""
        if self._graphs_left == 0:
            return _UNCAPTURED
        self._graphs_left -= 1
        return str(MOST_GRAPHS - self._graphs_left)

    def memory(self) -> EngineMemory:
        """What it takes on the device now; several executions may share arrays. Scratch memory is its own."""
        blocks = {block.address: block.bytes for execution in list(self.executions) for block in execution.blocks}
        return EngineMemory(self.spec.file, max(0, self._weights_bytes), self.scratch_bytes, sum(blocks.values()))


class OrtExecution:
    """A session with everything bound, for one set of shapes; an `Execution`.

    The first run is as it is, so that what runs once is not captured; at the second the provider runs the network once
    more and captures it, and from then on it launches the graph and waits for it.
    """

    def __init__(self, network: OrtNetwork, shapes: Shapes) -> None:
        self._network = network
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._binding: Any = network.session.io_binding()
        self._options: Any = None
        self.blocks: tuple[Memory, ...] = ()
        network.executions.add(self)

    def __del__(self) -> None:
        if hasattr(self, "_binding"):
            self._network.owner.device.drop(_Dropped(self._binding, self._network))

    def set_addresses(self, memory: Mapping[str, Memory]) -> None:
        """See `Execution.set_addresses`."""
        ordinal = self._network.owner.ordinal
        for tensor in self._network.spec.inputs:
            shape, address = self._shapes[tensor.name], memory[tensor.name].address
            self._binding.bind_input(tensor.name, "cuda", ordinal, np.dtype(tensor.dtype), shape, address)
        for tensor in self._network.spec.outputs:
            shape, address = self._shapes[tensor.name], memory[tensor.name].address
            self._binding.bind_output(tensor.name, "cuda", ordinal, np.dtype(tensor.dtype), shape, address)
        self.blocks = tuple(memory.values())

    def enqueue(self) -> None:
        """See `Execution.enqueue`."""
        network = self._network
        if self._options is not None:
            self._run(self._options)
            return
        free, _ = network.owner.device.memory()
        self._run(_options_of(_UNCAPTURED))
        network.scratch_bytes += max(0, free - network.owner.device.memory()[0])
        self._options = _options_of(network.next_graph())

    def __call__(self, work: Callable[[], None]) -> None:
        """See `Execution.__call__`: the copies around it are enqueued one by one."""
        work()

    def _run(self, options: Any) -> None:
        try:
            self._network.session.run_with_iobinding(self._binding, options)
        except Exception as error:
            raise run_error(self._network.spec.file, error) from error


def _options_of(graph: str) -> Any:
    """Options of runs that do not wait for the device, captured under an id."""
    return run_options(disable_synchronize_execution_providers="1", gpu_graph_id=graph)


class _Dropped:
    """What is left of an execution or a network, freed in the device's thread: each before what made it."""

    def __init__(self, *left: Any) -> None:
        self._left = list(left)

    def free(self) -> None:
        while self._left:
            del self._left[0]


class OrtCudaEngine(CanLoop):
    """See `Engine`: one network on the device."""

    def __init__(self, owner: OrtCudaBackend, spec: ComponentSpec, network: OrtNetwork) -> None:
        self._owner = owner
        self._spec = spec
        self._network: OrtNetwork | None = network
        self.inputs, self.outputs = spec.inputs, spec.outputs

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """An array in page-locked memory."""
        return self._owner.device.run(self._owner.device.pinned, shape, dtype)

    def bind(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None = None) -> BoundCall:
        """See `Engine.bind`."""
        check_binding(self._spec, tensors)
        return self._owner.device.run(DeviceCall, self._owner, self._spec, self._execution, tensors, held or {})

    def bind_loop(self, shapes: Mapping[str, tuple[int, ...]], layout: LoopLayout) -> BoundLoop:
        """See `CanLoop`."""
        check_binding(self._spec, {t.name: np.empty(shapes[t.name], t.dtype) for t in (*self.inputs, *self.outputs)})
        return self._owner.device.run(DeviceLoop, self._owner, self._spec, self._execution, shapes, layout)

    def close(self) -> None:
        """Drop the session; its memory goes with the last call bound to it."""
        self._network = None

    def _execution(self, shapes: Shapes) -> OrtExecution:
        assert self._network is not None, "the network is closed"
        return OrtExecution(self._network, shapes)
