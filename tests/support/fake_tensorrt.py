"""A double of the `tensorrt` and `tensorrt_rtx` modules: builds "plans" of random bytes, and records what was set.

The real TensorRT cannot be installed without NVIDIA's servers, and RTX refuses half of its knobs without a GPU.
"""

import enum
import os
import sys
import time
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import onnx

_ALL_RTX = ("NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120")


class _Base:
    def __init__(self) -> None:
        pass


class _Logger(_Base):
    ERROR = 1


class Config:
    """A builder configuration: its attributes are what was assigned, its lists what was called."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.capabilities: dict[int, str] = {}
        self.workspace: int | None = None
        self.profiles: list[dict[str, Any]] = []
        self.cache: bytes | None = None
        self.progress_monitor: Any = None

    def set_flag(self, flag: enum.Enum) -> None:
        self.flags.add(flag.name)

    def set_compute_capability(self, capability: enum.Enum, index: int) -> None:
        self.capabilities[index] = capability.name

    def set_memory_pool_limit(self, pool: enum.Enum, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.cache = cache + b"timing;"
        return not cache.startswith(b"foreign")

    def get_timing_cache(self) -> Any:
        return types.SimpleNamespace(serialize=lambda: self.cache)


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes


class _Network:
    """`softmaxes` are the types of its softmax layers' inputs."""

    inputs: list[Any]

    def __init__(self, softmaxes: tuple[str, ...]) -> None:
        self.softmaxes = softmaxes

    @property
    def num_layers(self) -> int:
        return len(self.softmaxes) + 1

    def get_layer(self, index: int) -> Any:
        kind = (*self.softmaxes, "another")[index]
        given = types.SimpleNamespace(dtype=kind)
        return types.SimpleNamespace(type=kind if kind == "another" else "softmax", get_input=lambda index: given)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]


class FakeTensorRT(types.ModuleType):
    """`unsupported` are (node, operator, reason); `says` is an error that fails a build; a build calls `on_start`."""

    def __init__(
        self,
        name: str = "tensorrt_rtx",
        version: str = "1.7.1.116",
        *,
        plan_bytes: int = 1000,
        seconds: float = 0.0,
        unsupported: tuple[tuple[str, str, str], ...] = (),
        says: str = "",
        on_start: Callable[[], object] = lambda: None,
        softmaxes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name)
        self.__version__ = version
        self.__spec__ = ModuleSpec(name, None)
        self.configs: list[Config] = []
        self.network_flags: list[int] = []
        self.ILogger, self.IProgressMonitor = _Logger, _Base
        self.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})
        flags = "VERSION_COMPATIBLE WEIGHT_STREAMING REFIT STRIP_PLAN REFIT_IDENTICAL"
        self.BuilderFlag = enum.Enum("BuilderFlag", f"{flags} REQUIRE_USER_ALLOCATION" if "rtx" in name else flags)
        self.networks: list[_Network] = []
        self.MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
        self.HardwareCompatibilityLevel = enum.Enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")
        if name == "tensorrt_rtx":
            self.ComputeCapability = enum.Enum("ComputeCapability", list(_ALL_RTX))
        self.LayerType = types.SimpleNamespace(SOFTMAX="softmax")
        self.DataType = types.SimpleNamespace(FLOAT="float")
        module = self

        class Builder:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def create_network(self, flags: int) -> _Network:
                module.network_flags.append(flags)
                module.networks.append(_Network(softmaxes))
                return module.networks[-1]

            def create_builder_config(self) -> Config:
                module.configs.append(Config())
                return module.configs[-1]

            def create_optimization_profile(self) -> _Profile:
                return _Profile()

            def build_serialized_network(self, network: object, config: Config) -> bytes | None:
                if says:
                    self.logger.log(1, says)
                    return None
                on_start()
                watcher = config.progress_monitor
                watcher.phase_start("Building", None, 2)
                for half in range(2):
                    watcher.phase_start("Part", "Building", 10)
                    for step in range(10):
                        time.sleep(seconds / 20)
                        if not watcher.step_complete("Part", step):
                            return None
                    watcher.phase_finish("Part")
                    watcher.step_complete("Building", half)
                watcher.phase_finish("Building")
                return os.urandom(plan_bytes)

        class OnnxParser:
            num_errors = len(unsupported)

            def __init__(self, network: _Network, logger: Any) -> None:
                self.network = network

            def parse_from_file(self, path: str) -> bool:
                graph = onnx.load(path, load_external_data=False).graph
                self.network.inputs = [types.SimpleNamespace(name=value.name, shape=None) for value in graph.input]
                return not unsupported

            def get_error(self, index: int) -> Any:
                node, operator, reason = unsupported[index]
                return types.SimpleNamespace(
                    node_name=lambda: node, node_operator=lambda: operator, desc=lambda: reason
                )

        self.Builder, self.OnnxParser = Builder, OnnxParser

    def install(self) -> None:
        """Take the real module's place in this process."""
        sys.modules[self.__name__] = self
