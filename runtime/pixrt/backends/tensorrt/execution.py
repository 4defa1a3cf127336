"""What runs on a CUDA device: an execution context for one set of shapes, and the graph captured of its work.

Everything here runs in the device's thread. Must not import TensorRT.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pixrt.backends.cuda.calls import Shapes
from pixrt.backends.cuda.device import CudaError, Graph, Memory
from pixrt.backends.tensorrt.context import TensorRtContext
from pixrt.errors import BackendError

if TYPE_CHECKING:
    from pixrt.bundles.engine_spec import EngineSpec


class Plan(Protocol):
    """What an execution asks of the deserialised plan that it runs."""

    @property
    def spec(self) -> "EngineSpec":
        """What it was built for."""

    @property
    def streams_weights(self) -> bool:
        """Whether weights travel at every run."""

    def context(self) -> Any:
        """An execution context without memory of its own."""

    def scratch_bytes(self, context: Any) -> int:
        """Scratch memory that a context, whose shapes are set, needs."""

    def keep_kernels(self) -> None:
        """Keep kernels that the library has compiled, for the next process."""


class ContextExecution:
    """One execution context, for one set of shapes and the plan's profile that takes them."""

    def __init__(self, owner: TensorRtContext, plan: Plan, shapes: Shapes) -> None:
        self._owner = owner
        self._plan = plan  # it must outlive its contexts: see `_Dropped`
        self._context = plan.context()
        self._generation = -1
        self._has_run = False
        profile = plan.spec.profile_for({tensor.name: shapes[tensor.name] for tensor in plan.spec.inputs})
        if len(plan.spec.profiles) > 1 and not self._select(profile):
            raise self._failed(f"does not take its profile {profile}")
        for tensor in plan.spec.inputs:
            if not self._context.set_input_shape(tensor.name, tuple(shapes[tensor.name])):
                raise self._failed(f"does not take {tensor.name} of {list(shapes[tensor.name])}")
        for tensor in plan.spec.outputs:
            made = tuple(self._context.get_tensor_shape(tensor.name))
            if made != tuple(shapes[tensor.name]):
                raise self._failed(f"makes {tensor.name} of {list(made)}, where {list(shapes[tensor.name])} is bound")
        self.blocks: tuple[Memory, ...] = ()
        self.scratch_bytes = plan.scratch_bytes(self._context)
        owner.scratch.require(self.scratch_bytes)

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            self._owner.device.drop(_Dropped(self._context, self._plan))

    def _select(self, profile: int | None) -> bool:
        """What it enqueues is before every run: they are on the same stream."""
        return profile is not None and self._context.set_optimization_profile_async(profile, self._owner.device.stream)

    def set_addresses(self, memory: Mapping[str, Memory]) -> None:
        """Where every input and output is; once."""
        for name, block in memory.items():
            if not self._context.set_tensor_address(name, block.address):
                raise self._failed(f"does not take an address for {name}")
        self.blocks = tuple(memory.values())

    @property
    def is_current(self) -> bool:
        """Whether the scratch memory is still where it was when the context was told."""
        return self._generation == self._owner.scratch.generation

    def enqueue(self) -> None:
        """Enqueue one run."""
        if not self.is_current:
            scratch = self._owner.scratch
            scratch.require(self.scratch_bytes)  # it is gone where growing it failed
            self._context.set_device_memory(scratch.memory.address, scratch.memory.bytes)
            self._generation = scratch.generation
        if not self._context.execute_async_v3(self._owner.device.stream):
            raise self._failed("failed")
        if not self._has_run:
            # Not when the plan is closed: a process that is killed would have compiled them for nothing.
            self._has_run = True
            self._plan.keep_kernels()

    def can_be_captured(self) -> bool:
        """Whether the library lets a stream capture see all of a run; TensorRT does unless it streams weights."""
        if self._plan.streams_weights:
            return False
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(self._owner.device.stream))

    def _failed(self, what: str) -> BackendError:
        return BackendError(
            f"{self._plan.spec.file} {what}: {self._owner.log.last}",
            remedy="Build it again, or choose --backend ort-cpu",
        )


class _Dropped:
    """What is left of an execution: the library may still be running it, and frees its memory in the calling thread.

    The context goes first, by name: a tuple of the two would drop its last member, the plan, before it.
    """

    def __init__(self, context: Any, plan: Plan) -> None:
        self._context = context
        self._plan: Plan | None = plan

    def free(self) -> None:
        self._context = None
        self._plan = None


class Repeated:
    """Work on the stream: run as it is the first time, then captured, and from then on launched as one graph.

    The first run is the warm-up: libraries allocate and load kernels then, which a capture does not allow. When the
    scratch memory has moved, all of that is done again. What the library does not let capture is run as it is, and so
    is what could not be captured, with a warning.
    """

    def __init__(self, owner: TensorRtContext, execution: ContextExecution) -> None:
        self._owner = owner
        self.execution = execution
        self._graph: Graph | None = None
        self._may_capture = owner.graphs

    def __del__(self) -> None:
        self._graph = None  # before the execution that it was captured of

    def set_addresses(self, memory: Mapping[str, Memory]) -> None:
        """See `Execution.set_addresses`."""
        self.execution.set_addresses(memory)

    def enqueue(self) -> None:
        """See `Execution.enqueue`."""
        self.execution.enqueue()

    def __call__(self, work: Callable[[], None]) -> None:
        """See `Execution.__call__`."""
        if not self.execution.is_current:
            self._graph = None
            work()
            return
        if self._graph is None:
            if not self._may_capture or not self.execution.can_be_captured():
                work()
                return
            try:
                self._graph = self._owner.device.capture(work)
            except (BackendError, CudaError) as error:
                self._may_capture = False
                warnings.warn(f"no CUDA graph can be captured, steps are slower without: {error}", stacklevel=1)
                work()
                return
        self._graph.launch()
