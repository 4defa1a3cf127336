"""The kernels that TensorRT-RTX compiles when an engine is first run, kept in a file for the next process.

Everything here runs in the device's thread. Must not import TensorRT.
"""

import hashlib
from contextlib import suppress
from typing import Any

from pixrt.backends.tensorrt.context import TensorRtContext
from pixrt.bundles.engine_files import read_trusted
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.errors import EngineError, OutputError
from pixrt.files import atomic_write, close_to_others, make_folder
from pixrt.places import cache_folder

_MOST_BYTES = 1 << 30


class KernelCache:
    """The kernels of one engine; it makes the engine's contexts, and must outlive them.

    The file holds code: it is read only where nobody else can have written it, and the library itself refuses one of
    another GPU, driver or version. One that cannot be read or written costs time and nothing else.
    """

    def __init__(self, owner: TensorRtContext, spec: EngineSpec, engine: Any) -> None:
        name = f"{spec.sha256[:16]}-{owner.capability}-{owner.version}.cache"
        self._path = cache_folder() / "kernels" / name
        self._strategies = owner.module.DynamicShapesKernelSpecializationStrategy
        self._engine: Any = engine
        self._cache: Any = engine.create_runtime_config().create_runtime_cache()
        self._kept = b""
        with suppress(EngineError):
            data = read_trusted(self._path, _MOST_BYTES)
            if self._cache.deserialize(data):
                self._kept = hashlib.sha256(data).digest()

    def context(self, strategy: Any) -> Any:
        """An execution context with these kernels, None where the library refuses."""
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        # The default compiles while slower kernels run, and a captured graph would keep those for good.
        config.dynamic_shapes_kernel_specialization_strategy = self._strategies.EAGER
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def close(self) -> None:
        """Let go of the cache, then of the engine; every context that was made here is gone by then."""
        self._cache = None
        self._engine = None

    def save(self) -> None:
        """Write the file where there are new kernels."""
        made = self._cache.serialize()
        data = b"" if made is None else bytes(memoryview(made))
        digest = hashlib.sha256(data).digest()
        if not data or digest == self._kept:
            return
        with suppress(OSError, OutputError):
            make_folder(self._path.parent)
            with atomic_write(self._path) as file:
                file.write(data)
                close_to_others(file.fileno())
            self._kept = digest
