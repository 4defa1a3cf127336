"""Plans of a bundle that are open, and the engine of a component: its plans, each opened when a shape first needs it.

Must not import TensorRT: the backend has its module.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np

from pixrt.backends.cuda.calls import DeviceCall, DeviceLoop, Shapes
from pixrt.backends.protocol import (
    Array,
    BoundCall,
    BoundLoop,
    CanLoop,
    CanRefit,
    EngineMemory,
    LoopLayout,
    NewWeight,
    check_binding,
)
from pixrt.backends.tensorrt.context import TensorRtContext
from pixrt.backends.tensorrt.execution import ContextExecution, Repeated
from pixrt.backends.tensorrt.kernels import KernelCache
from pixrt.backends.tensorrt.reading import deserialize
from pixrt.backends.tensorrt.refit import Refit, refit_whole
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, EngineError


class LoadedPlan:
    """A deserialised plan. Each of its executions holds it, so it goes after the last of their contexts."""

    def __init__(self, owner: TensorRtContext, runtime: Any, bundle: Bundle, spec: EngineSpec) -> None:
        self.spec = spec
        self._owner = owner
        self.kernels: KernelCache | None = None
        self._runtime = runtime  # it must outlive its engines
        free, _ = owner.device.memory()
        self.engine: Any = deserialize(owner.module, runtime, bundle, spec, own_only=not owner.trust_engines)
        if self.engine is None:
            raise EngineError(
                f"{owner.library} {owner.version} cannot open {spec.file}: {owner.log.last}",
                remedy=f"Build it again here: `pixrt build {bundle.folder}`",
            )
        self._check_tensors()
        if spec.stripped:
            with bundle.loading(Component(spec.component)) as path:
                refit_whole(owner.module, owner.log, self.engine, path)
        self.streams_weights = self._limit_weights(owner.weight_budget_bytes)
        if owner.library == "tensorrt_rtx":
            self.kernels = KernelCache(owner, spec, self.engine)
        self._weights_bytes = free - owner.device.memory()[0]
        self._executions: WeakSet[ContextExecution] = WeakSet()

    def __del__(self) -> None:
        if hasattr(self, "engine"):
            self._owner.device.drop(_Dropped(self.kernels, self.engine, self._runtime))

    def _check_tensors(self) -> None:
        """The engine's own table against the manifest's: an address must not be bound to a tensor of another kind."""
        names = {self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)}
        table = {tensor.name: tensor for tensor in (*self.spec.inputs, *self.spec.outputs)}
        for name in sorted(names ^ table.keys()):
            raise EngineError(f"{self.spec.file} and the manifest differ in the tensor {name}", remedy=_AGAIN)
        for name, tensor in table.items():
            if self.engine.is_shape_inference_io(name):
                raise EngineError(f"{self.spec.file} wants {name} in host memory", remedy=_AGAIN)
            dtype = np.dtype(self._owner.module.nptype(self.engine.get_tensor_dtype(name)))
            if dtype != np.dtype(tensor.dtype):
                raise EngineError(f"{self.spec.file} has {name} as {dtype}, not {tensor.dtype}", remedy=_AGAIN)

    def _limit_weights(self, budget: int | None) -> bool:
        """Set how much of the weights may be on the device; whether the rest has to be streamed. Before any context."""
        if budget is None:
            return False
        whole = int(self.engine.streamable_weights_size)
        wanted = min(budget, whole)
        self.engine.weight_streaming_budget_v2 = wanted
        if self.engine.weight_streaming_budget_v2 != wanted:  # a refusal is not told otherwise
            raise EngineError(
                f"{self.spec.file} does not take a weight budget of {wanted / 2**20:.0f} MiB: {self._owner.log.last}",
                remedy="Give a larger one, or leave it out",
            )
        return wanted < whole

    def scratch_bytes(self, context: Any) -> int:
        """Scratch memory that a context, whose shapes are set, needs."""
        needed, most = int(context.update_device_memory_size_for_shapes()), int(self.engine.device_memory_size_v2)
        if needed == 0 < most:  # zero is its error
            raise BackendError(
                f"{self.spec.file} cannot tell its scratch memory: {self._owner.log.last}", remedy=_AGAIN
            )
        return max(needed, most) if self.streams_weights else needed

    def keep_kernels(self) -> None:
        """See `Plan.keep_kernels`."""
        if self.kernels is not None:
            self.kernels.save()

    def execution(self, shapes: Shapes) -> Repeated:
        """An execution context for these shapes."""
        made = ContextExecution(self._owner, self, shapes)
        self._executions.add(made)
        return Repeated(self._owner, made)

    @property
    def is_in_use(self) -> bool:
        """Whether something is bound to it."""
        return bool(self._executions)

    def memory(self) -> EngineMemory:
        """What it takes on the device now; several contexts may share arrays."""
        executions = list(self._executions)
        blocks = {block.address: block.bytes for execution in executions for block in execution.blocks}
        scratch = max((execution.scratch_bytes for execution in executions), default=0)
        return EngineMemory(self.spec.file, max(0, self._weights_bytes), scratch, sum(blocks.values()))

    def context(self) -> Any:
        """An execution context without memory of its own: see `Scratch`."""
        strategy = self._owner.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.kernels is not None:
            context = self.kernels.context(strategy)
        else:
            context = self.engine.create_execution_context(strategy)
        if context is None:
            raise BackendError(
                f"{self.spec.file} cannot be run: {self._owner.log.last}", remedy="Close other programs on the GPU"
            )
        return context


class _Dropped:
    """What is left of a plan, freed in the device's thread: kernels, engine, runtime, each before what made it."""

    def __init__(self, kernels: KernelCache | None, engine: Any, runtime: Any) -> None:
        self._kernels = kernels
        self._engine = engine
        self._runtime = runtime

    def free(self) -> None:
        if self._kernels is not None:
            self._kernels.close()
        self._engine = None
        self._runtime = None


class TensorRtEngine(CanLoop, CanRefit):
    """A component's plans, each opened when a shape first needs it."""

    def __init__(
        self, owner: TensorRtContext, runtime: Any, bundle: Bundle, component: Component, specs: Sequence[EngineSpec]
    ) -> None:
        self._owner = owner
        self._runtime = runtime
        self._bundle = bundle
        self._spec = bundle.manifest.component(component)
        self.inputs, self.outputs = self._spec.inputs, self._spec.outputs
        self._specs = specs
        self._plans: dict[str, LoadedPlan] = {}
        self._refit = Refit(owner.module, owner.log, bundle, component)

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

    def refit(self, weights: Iterable[NewWeight]) -> bool:
        """See `CanRefit`. Raises EngineError where the library refuses."""
        given = list(weights)
        if not given and not self._refit.is_dirty:
            return True
        if not all(spec.refittable for spec in self._specs):
            return False  # the bundle may have others that are
        self._refit.use(given)
        self._owner.device.run(self._apply)
        return True

    def close(self) -> None:
        """Drop the plans; their memory goes with the last call bound to them."""
        self._owner.device.release(self._close)

    def _close(self) -> None:
        for name in tuple(self._plans):
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._plans.pop(name).keep_kernels()

    def _apply(self) -> None:
        device = self._owner.device
        device.synchronize()  # an engine must not be running while it is refitted
        self._owner.scratch.renew()
        for plan in self._plans.values():
            self._refit.apply(plan.engine)
        device.settle()

    def _execution(self, shapes: Shapes) -> Repeated:
        plan = self._owner.device.run(self._plan, shapes)
        return self._owner.device.run(plan.execution, shapes)

    def _plan(self, shapes: Shapes) -> LoadedPlan:
        """The first plan that takes these shapes; one with a static profile of them before others."""
        inputs = {tensor.name: tuple(shapes[tensor.name]) for tensor in self._spec.inputs}
        fitting = [(spec, profile) for spec in self._specs if (profile := spec.profile_for(inputs)) is not None]
        fitting.sort(key=lambda found: not found[0].profiles[found[1]].is_static)
        if fitting:
            return self._opened(fitting[0][0])
        name = next(iter(inputs))
        taken = "; ".join(
            f"{' x '.join(map(str, sizes.min))} to {' x '.join(map(str, sizes.max))}"
            for spec in self._specs
            for sizes in (profile.inputs[name] for profile in spec.profiles)
        )
        raise EngineError(
            f"no engine of {self._specs[0].component} takes {name} of {' x '.join(map(str, inputs[name]))}; there are"
            f" engines for {taken}",
            remedy=f"Build one: `pixrt build {self._bundle.folder} --size WIDTHxHEIGHT --batch N`",
        )

    def _opened(self, spec: EngineSpec) -> LoadedPlan:
        if spec.file not in self._plans:
            for name in [name for name, plan in self._plans.items() if not plan.is_in_use]:
                self._drop(name)  # its weights may be as large as the new one's
            plan = LoadedPlan(self._owner, self._runtime, self._bundle, spec)
            self._refit.apply(plan.engine)
            self._owner.device.settle()  # the library loads on streams of its own
            self._plans[spec.file] = plan
            self._owner.plans.add(plan)
        return self._plans[spec.file]


_AGAIN = "Build it again with `pixrt build`"
