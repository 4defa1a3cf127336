"""TensorRT-RTX's runtime classes as far as pixrt calls them: `simulated_tensorrt`, with what RTX has besides.

A context made for lazily compiled kernels cannot be captured here, as it must not be there: a graph would keep the
slower kernels that run in their place at first.
"""

import enum
from typing import Any
from weakref import ReferenceType, WeakSet, ref

import simulated_tensorrt
from simulated_tensorrt import (  # noqa: F401  # the module stands for the library
    ExecutionContextAllocationStrategy,
    ILogger,
    IStreamReaderV2,
    OnnxParserRefitter,
    Refitter,
    SeekPosition,
    TensorIOMode,
    Weights,
    nptype,
)

__version__ = "1.7.1.116"
# The kernels of an engine, and how often any had to be compiled.
KERNELS = b"kernels of "
compiled = 0


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class IRuntimeCache:
    def __init__(self) -> None:
        self.data = b""
        self.contexts: WeakSet[IExecutionContext] = WeakSet()

    def __del__(self) -> None:
        simulated_tensorrt.destroy("cache", self.contexts)

    def serialize(self) -> bytes | None:
        return self.data or None

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(KERNELS):
            return False
        self.data = blob
        return True


class IRuntimeConfig:
    def __init__(self) -> None:
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.cache: ReferenceType[IRuntimeCache] | None = None
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = ref(cache)  # the binding keeps it alive for nobody
        return True


class IExecutionContext(simulated_tensorrt.IExecutionContext):
    config = IRuntimeConfig()

    def is_stream_capturable(self, stream: int) -> bool:
        strategies = DynamicShapesKernelSpecializationStrategy
        return self.config.dynamic_shapes_kernel_specialization_strategy is not strategies.LAZY

    def execute_async_v3(self, stream_handle: int) -> bool:
        global compiled
        cache, kernels = self.config.cache and self.config.cache(), KERNELS + self.engine.path.name.encode()
        if cache is None or cache.data != kernels:
            compiled += 1
        if cache is not None:
            cache.data = kernels
        return super().execute_async_v3(stream_handle)


class ICudaEngine(simulated_tensorrt.ICudaEngine):
    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> Any:  # type: ignore[override]
        context = IExecutionContext(self)
        assert runtime_config.strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        context.config = runtime_config
        if runtime_config.cache is not None and (cache := runtime_config.cache()) is not None:
            cache.contexts.add(context)
        return context


class Runtime(simulated_tensorrt.Runtime):
    engine = ICudaEngine
