"""What everything on one CUDA device shares: the library, the device, its memory and how it is used.

At the bottom of this room: calls, executions, kernels and plans are handed it, and none of them knows the backend. Must
not import TensorRT: the backend has its module.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakSet

from pixrt.backends.cuda.device import Device
from pixrt.backends.cuda.held import HeldArrays
from pixrt.backends.protocol import EngineMemory
from pixrt.backends.tensorrt.scratch import Scratch
from pixrt.bundles.engine_spec import EngineLibrary


class TakesMemory(Protocol):
    """Something on the device that can tell what it takes there."""

    def memory(self) -> EngineMemory:
        """What it takes now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRtContext:
    """One library on one device.

    Attributes:
        name: of the backend, as the user chose it.
        module: the library's, `tensorrt` or `tensorrt_rtx`; `log` is its logger, which keeps the last error.
        scratch, held: memory that all engines share, which never run at the same time.
        graphs: whether what a call enqueues is captured into a CUDA graph.
        weight_budget_bytes: how much of an engine's weights may be on the device; None is all of them.
        trust_engines: whether plans are run that this user has not built.
        plans: the plans that are open.
    """

    name: str
    library: EngineLibrary
    module: Any
    log: Any
    device: Device
    scratch: Scratch
    held: HeldArrays
    graphs: bool
    weight_budget_bytes: int | None
    trust_engines: bool = False
    plans: WeakSet[TakesMemory] = field(default_factory=WeakSet)

    @property
    def version(self) -> str:
        """The library's version."""
        return str(self.module.__version__)

    @property
    def capability(self) -> str:
        """The device's compute capability, such as "sm89"."""
        major, minor = self.device.capability
        return f"sm{major}{minor}"
