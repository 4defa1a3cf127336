"""ONNX Runtime behind the `Engine` protocol. The only module of the runtime that imports onnxruntime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pixrt.backends.protocol import Array, BoundCall, check_binding
from pixrt.errors import BackendError
from pixrt.spec import ComponentSpec, TensorSpec

VERSION: str = onnxruntime.__version__
PROVIDERS: tuple[str, ...] = tuple(onnxruntime.get_available_providers())


def _share_arena() -> None:
    """One arena for the scratch memory of all sessions: the networks of a bundle never run at the same time."""
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    same_as_requested = {"arena_extend_strategy": 1}  # the default doubles the arena at every extension
    onnxruntime.create_and_register_allocator(cpu, onnxruntime.OrtArenaCfg(same_as_requested))


_share_arena()


class OrtEngine:
    """One session; inputs and outputs are bound by address, so a run moves nothing on the CPU."""

    def __init__(self, session: Any, spec: ComponentSpec, on_host: bool) -> None:
        self._session = session
        self._spec = spec
        self._on_host = on_host

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the inputs."""
        return self._spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensor table of the outputs."""
        return self._spec.outputs

    def bind(self, tensors: Mapping[str, Array]) -> BoundCall:
        """See `Engine.bind`."""
        check_binding(self._spec, tensors)
        binding = self._session.io_binding()
        for tensor in self._spec.inputs:
            array = tensors[tensor.name]
            binding.bind_input(tensor.name, "cpu", 0, np.dtype(tensor.dtype), array.shape, array.ctypes.data)
        for tensor in self._spec.outputs:
            array = tensors[tensor.name]
            binding.bind_output(tensor.name, "cpu", 0, np.dtype(tensor.dtype), array.shape, array.ctypes.data)
        return _OrtCall(self._session, binding, dict(tensors), self._spec.file, self._on_host)

    def close(self) -> None:
        """Drop the session; its memory goes with the last call bound to it."""
        self._session = None


class _OrtCall:
    """`tensors` is held so that the bound addresses stay valid."""

    def __init__(self, session: Any, binding: Any, tensors: Mapping[str, Array], file: str, on_host: bool) -> None:
        self._run = session.run_with_iobinding
        self._binding = binding
        self._tensors = tensors
        self._file = file
        self._on_host = on_host

    def __call__(self) -> None:
        try:
            self._run(self._binding)
            if not self._on_host:
                self._binding.synchronize_outputs()
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BackendError(
                f"{self._file} failed in ONNX Runtime: {_first_line(error)}",
                remedy="Try a smaller --resolution, or another --backend",
            ) from error


class OrtBackend:
    """ONNX Runtime with one execution provider (CPU kernels serve what the provider leaves)."""

    def __init__(self, name: str, provider: str, threads: int | None) -> None:
        self.name = name
        self._provider = provider
        self._threads = threads

    def open(self, path: Path, spec: ComponentSpec) -> OrtEngine:
        """See `Backend.open`."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # A memory pattern is one more block beside the arena; without it a full-size UNet takes 0.2 GiB less, as fast.
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        providers = (
            [self._provider] if self._provider == "CPUExecutionProvider" else [self._provider, "CPUExecutionProvider"]
        )
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # as above
            raise BackendError(
                f"ONNX Runtime {VERSION} cannot open {path.name}: {_first_line(error)}",
                remedy="Export the checkpoint again, or update onnxruntime",
            ) from error
        if self._provider not in session.get_providers():
            raise BackendError(
                f"ONNX Runtime {VERSION} did not take {self._provider} for {path.name}",
                remedy="See `pixrt doctor` for what this machine has, or choose --backend ort-cpu",
            )
        return OrtEngine(session, spec, self._provider == "CPUExecutionProvider")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
