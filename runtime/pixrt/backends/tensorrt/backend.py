"""TensorRT and TensorRT-RTX behind the `Backend` protocol: a library on one CUDA device, and the engines that fit.

One code path for both libraries, whose Python interfaces are alike. The only module of the runtime that imports them.
"""

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from pixrt.backends.cuda.device import Device
from pixrt.backends.cuda.held import HeldArrays
from pixrt.backends.protocol import EngineMemory, HasPlans, HasShapes, NewWeight, TellsMemory
from pixrt.backends.tensorrt.context import TensorRtContext
from pixrt.backends.tensorrt.plan import TensorRtEngine
from pixrt.backends.tensorrt.scratch import Scratch
from pixrt.bundles.engine_files import check_engine, engine_problem, owner_problem
from pixrt.bundles.engine_spec import EngineLibrary, EngineSpec, SizeRange
from pixrt.bundles.manifest import NETWORKS, Component
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, EngineError


def import_library(name: EngineLibrary, install: str) -> ModuleType:
    """The library's module. Raises BackendError where it is not there, or is only its type stubs.

    `install` is the remedy.
    """
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: its shared libraries are missing
        reason = str(error).splitlines()[0]
        raise BackendError(f"{name} cannot be imported: {reason}", remedy=install) from error
    if not hasattr(module, "Runtime"):
        raise BackendError(f"{name} is not installed, only its type stubs", remedy=install)
    return module


class TensorRtBackend(HasShapes, HasPlans, TellsMemory):
    """One of the two libraries on one device. Its engines share the scratch memory and the cache of held arrays.

    `graphs` captures what a call enqueues into a CUDA graph. `weight_budget_bytes` is how much of an engine's weights
    may be on the device, for engines built with weight streaming. Plans that this user has not built are left alone,
    unless `trust_engines`. Raises BackendError where there is no device.
    """

    prefers_fused_step = True

    def __init__(
        self,
        name: str,
        library: EngineLibrary,
        module: ModuleType,
        *,
        graphs: bool = True,
        weight_budget_bytes: int | None = None,
        trust_engines: bool = False,
    ) -> None:
        self.name = name
        log = _make_log(module)
        device = Device()
        self.context = TensorRtContext(
            name=name,
            library=library,
            module=module,
            log=log,
            device=device,
            scratch=Scratch(device),
            held=HeldArrays(device),
            graphs=graphs,
            weight_budget_bytes=weight_budget_bytes,
            trust_engines=trust_engines,
        )
        try:
            self._runtime: Any = device.run(module.Runtime, log)
        except TypeError as error:  # what the binding makes of a library that refuses, such as for an old driver
            device.close()
            raise BackendError(f"{name} cannot start: {log.last}", remedy="See `pixrt doctor`") from error
        # Version-compatible plans bring host code along; it is verified as the rest of the plan is.
        self._runtime.engine_host_code_allowed = True

    def describe(self) -> str:
        """The library, the device and the driver."""
        context, device = self.context, self.context.device
        free, total = device.memory()
        return (
            f"{context.library} {context.version} on {device.name} ({context.capability}), CUDA driver"
            f" {device.driver_version}, {free / 2**20:.0f} of {total / 2**20:.0f} MiB free"
        )

    def problem(self, bundle: Bundle, component: Component, *, refit: bool = False) -> str | None:
        """See `Backend.problem`."""
        try:
            self.engines(bundle, component, refit=refit)
        except EngineError as error:
            return error.problem
        return None

    def shapes(
        self, bundle: Bundle, component: Component, *, refit: bool = False, tensor: str | None = None
    ) -> tuple[SizeRange, ...]:
        """See `HasShapes.shapes`: those of every engine that can run here; none where there is no engine, either."""
        try:
            engines = self.engines(bundle, component, refit=refit)
        except EngineError:
            return ()
        name = tensor or bundle.manifest.component(component).inputs[0].name
        return tuple(profile.inputs[name] for spec in engines for profile in spec.profiles if name in profile.inputs)

    def engines(self, bundle: Bundle, component: Component, *, refit: bool = False) -> list[EngineSpec]:
        """The component's engines that can run here. Raises EngineError where there is none.

        `refit` leaves out those that cannot take other weights, a weight budget those that cannot stream theirs.
        """
        context = self.context
        built = [spec for spec in bundle.manifest.engines if spec.component == component]
        fitting, problems = [], []
        for spec in built:
            problem = engine_problem(spec, context.library, context.version, context.capability)
            if problem is None and refit and not spec.refittable:
                problem = f"{spec.file} cannot take other weights: it was not built with --refittable"
            if problem is None and context.weight_budget_bytes is not None and not spec.weight_streaming:
                problem = f"{spec.file} keeps its weights on the device: it was not built with --weight-streaming"
            if problem is None and not context.trust_engines:
                problem = owner_problem(spec)
            problems += [problem] if problem else []
            fitting += [] if problem else [spec]
        if not fitting:
            lacks = f"the bundle {bundle.manifest.name!r} has no {context.library} engine of {component}"
            command = f"pixrt build {bundle.folder} --library {self.name} --component {component}"
            raise EngineError(problems[0] if problems else lacks, remedy=f"Build one here: `{command}`")
        return fitting

    def networks(self, bundle: Bundle) -> tuple[Component, ...]:
        """What an edit runs here: the fused step in the UNet's place where it has an engine."""
        fused = self.problem(bundle, Component.UNET_STEP) is None
        return tuple(Component.UNET_STEP if fused and name is Component.UNET else name for name in NETWORKS)

    def check_plans(self, bundle: Bundle) -> None:
        """See `HasPlans`. A plan is hashed when it is opened: what no edit needs is not read."""
        for component in self.networks(bundle):
            for spec in self.engines(bundle, component):
                check_engine(bundle.folder, spec, bundle.manifest, own_only=not self.context.trust_engines)

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> TensorRtEngine:
        """See `Backend.open`. The plans themselves are read when a shape first asks for one."""
        given = list(weights)
        engine = TensorRtEngine(
            self.context, self._runtime, bundle, component, self.engines(bundle, component, refit=bool(given))
        )
        try:
            engine.refit(given)
        except BaseException:
            engine.close()
            raise
        return engine

    def memory(self) -> tuple[EngineMemory, ...]:
        """See `TellsMemory`."""
        return tuple(sorted((plan.memory() for plan in self.context.plans), key=lambda memory: memory.name))

    def close(self) -> None:
        """Give the device back."""
        context = self.context
        context.held.clear()
        context.scratch.clear()
        context.device.release(self._drop_runtime)
        context.device.close()

    def _drop_runtime(self) -> None:
        self._runtime = None


def _make_log(module: Any) -> Any:
    """The library's logger: it keeps the last error, prints nothing."""

    class Log(module.ILogger):  # type: ignore[misc]
        last = "it does not say why"

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                self.last = " ".join(message.split())[:300]

    return Log()
