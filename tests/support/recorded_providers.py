"""A double of ONNX Runtime's GPU providers: the CPU computes, and what is asked of them is recorded in order.

What pixrt asks of a provider nobody sees on a machine without a GPU. Here it is a list that a test compares.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from pixrt.backends.ort import probe

CPU = "CPUExecutionProvider"
CUDA, TENSORRT, RTX = "CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
Event = tuple[Any, ...]
Answer = Callable[[dict[str, Any]], Any]


class Recorder:
    """Stands in place of onnxruntime's sessions and preloading, with a driver for `driver` and CUDA `built_for`.

    `run`, if given, takes the place of the probe's run. `loadable` says whether a provider's own library loads.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        *,
        driver: tuple[int, int] | None = (13, 0),
        built_for: str = "13.0",
        tensorrt: Path | None = None,
        run: Answer | None = None,
        loadable: bool = True,
    ) -> None:
        self.events: list[Event] = []
        self._real = onnxruntime.InferenceSession
        self._run = run
        self._loadable = loadable
        probe.preload.cache_clear()
        patch.setitem(sys.modules, "pixrt.backends.ort.device", None)  # on the host's arrays: there is no device here
        patch.setattr(probe, "PROVIDERS", (TENSORRT, RTX, CUDA, CPU))
        patch.setattr(probe, "tensorrt_libraries", lambda: iter(sorted(tensorrt.iterdir()) if tensorrt else ()))
        patch.setattr("pixrt.backends.driver.driver_cuda", lambda: driver)
        patch.setattr("ctypes.CDLL", self._load)
        patch.setattr(onnxruntime, "cuda_version", built_for, raising=False)
        patch.setattr(onnxruntime, "preload_dlls", self._preload, raising=False)
        patch.setattr(onnxruntime, "InferenceSession", self._session)

    def _preload(self) -> None:
        print("Failed to load libcudnn.so.9")  # as the real one does
        self.events.append(("preload_dlls",))

    def _load(self, path: str) -> None:
        self.events.append(("library", Path(path).name))
        if "onnxruntime_providers" in path and not self._loadable:
            raise OSError("libcublasLt.so.13: cannot open shared object file")

    def _session(self, model: Any, options: Any, *, providers: list[Any], enable_fallback: int = 1) -> "Session":
        only = _only(options)
        name = "probe" if isinstance(model, bytes) and len(model) < 1000 else Path(str(model)).name
        self.events.append(
            (name, tuple(providers), "only" if only else "or CPU", "fails" if not enable_fallback else "")
        )
        real = self._real(model, onnxruntime.SessionOptions() if only else options, providers=[CPU])
        return Session(real, [p if isinstance(p, str) else p[0] for p in providers], self._run if only else None)


class Session:
    """A session on the CPU that says it is on the providers it was asked for."""

    def __init__(self, real: Any, providers: list[str], run: Answer | None) -> None:
        self._real = real
        self._providers = providers
        self._run = run

    def get_providers(self) -> list[str]:
        return self._providers

    def run(self, names: Any, feed: dict[str, Any]) -> Any:
        return self._real.run(names, feed) if self._run is None else self._run(feed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _only(options: Any) -> bool:
    try:
        return bool(options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1")
    except Exception:  # it was not set
        return False
