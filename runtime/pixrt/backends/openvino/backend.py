"""OpenVINO's CPU kernels behind the `Engine` protocol. The only module of the runtime that imports openvino.

A bundle's ONNX file is compiled once, with its dynamic shapes; every bound call is an infer request on the caller's own
arrays. What was compiled is kept for the next process (see `cache`), unless weights were replaced in it.

OpenVINO computes in BF16 where a processor has it unless it is told otherwise: here FP32 is what it is told, and BF16
has to be asked for. In FP32 a graph in FP16 is computed in FP32 too, its weights and its inputs and outputs alone being
rounded.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import openvino

from pixrt.backends.host import HostBackend, HostEngine, failure
from pixrt.backends.openvino.cache import CompiledNetworks, release
from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import Component, ComponentSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import BackendError, OutputError
from pixrt.options.choices import CpuPrecision

VERSION: str = openvino.__version__.partition("-")[0]
_DEVICE = "CPU"
_CAPABILITIES = "OPTIMIZATION_CAPABILITIES"
_HINTS: Mapping[CpuPrecision, str] = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine(HostEngine):
    """One compiled network; `kept` is the memory that it was read from, if it was."""

    def __init__(self, compiled: Any, spec: ComponentSpec, kept: Array | None) -> None:
        super().__init__(spec)
        self._compiled = compiled
        self._kept = kept

    def tie(self, tensors: Mapping[str, Array]) -> Callable[[], None]:
        """See `HostEngine.tie`."""
        return _Call(self._compiled.create_infer_request(), tensors, self._spec, self._kept)

    def close(self) -> None:
        """Drop the network; its memory goes with the last call bound to it."""
        self._compiled = self._kept = None


class _Call:
    """An infer request over the memory of `tensors` and `kept`, which are held so that it stays valid."""

    def __init__(self, request: Any, tensors: Mapping[str, Array], spec: ComponentSpec, kept: Array | None) -> None:
        self._request = request
        self._kept = kept
        self._is_first = True
        self._tensors = tensors
        self._file = spec.file
        shared = {name: openvino.Tensor(array, shared_memory=True) for name, array in tensors.items()}
        for name, tensor in shared.items():
            request.set_tensor(name, tensor)
        self._outputs = [(shared[t.name], openvino.Shape(tensors[t.name].shape), t.name) for t in spec.outputs]

    def __call__(self) -> None:
        try:
            self._request.start_async()  # `infer` would copy the outputs to return them
            self._request.wait()
        except RuntimeError as error:
            raise failure(self._file, "OpenVINO", _reason(error), error) from error
        if self._is_first:
            self._is_first = False
            if self._kept is not None:
                release(self._kept)
        for tensor, shape, name in self._outputs:
            if tensor.shape != shape:  # it fills the front of an array that is too large
                raise BackendError(
                    f"{self._file} failed in OpenVINO: {name} came out as {list(tensor.shape)}, not {list(shape)}",
                    remedy="Export the checkpoint again",
                )


class OpenVinoBackend(HostBackend):
    """OpenVINO on the host's processor; `threads` None is one per core.

    Raises BackendError for a precision that the processor does not have: OpenVINO would compute in FP32 in silence.
    """

    def __init__(self, name: str, threads: int | None, precision: CpuPrecision) -> None:
        self._core = openvino.Core()
        processor = self._core.get_property(_DEVICE, "FULL_DEVICE_NAME")
        self._processor = (processor, sorted(self._core.get_property(_DEVICE, _CAPABILITIES)))
        self._cache = CompiledNetworks()
        super().__init__(name, f"openvino {VERSION} on {processor} in {precision.upper()}")
        if precision != "fp32" and precision.upper() not in self._core.get_property(_DEVICE, _CAPABILITIES):
            raise BackendError(
                f"this processor ({processor}) does not compute in {precision.upper()}",
                remedy="Leave --cpu-precision out",
            )
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "NUM_STREAMS": 1}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads

    def open(self, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> OpenVinoEngine:
        """See `Backend.open`."""
        given = list(weights)
        key = None if given else self._key(bundle, component)
        with bundle.loading(component) as path:
            try:
                compiled, kept = self._compile(path, given) if key is None else self._kept_or_compiled(path, key)
            except RuntimeError as error:
                raise BackendError(
                    f"OpenVINO {VERSION} cannot open {path.name}: {_reason(error)}",
                    remedy="Export the checkpoint again, or update openvino",
                ) from error
        return OpenVinoEngine(compiled, bundle.manifest.component(component), kept)

    def _compile(self, path: Path, weights: Iterable[NewWeight] = ()) -> tuple[Any, None]:
        model = self._core.read_model(path)
        _replace(model, weights, path)
        return self._core.compile_model(model, _DEVICE, self._settings), None

    def _kept_or_compiled(self, path: Path, key: str) -> tuple[Any, Array | None]:
        """A network with its own weights. What is compiled is kept, and taken from there, where its weights stand once.

        Raises RuntimeError.
        """
        found = self._find(key)
        if found is None:
            try:
                with self._cache.keeping(key) as folder:
                    self._core.compile_model(str(path), _DEVICE, {**self._settings, "CACHE_DIR": str(folder)})
            except OutputError as error:
                warnings.warn(
                    f"compiled networks are not kept, opening them takes longer: {error.problem}", stacklevel=1
                )
            except RuntimeError:  # of the network, or of writing it: without a cache it will show
                pass
            else:
                found = self._find(key)
        return found or self._compile(path)

    def _find(self, key: str) -> tuple[Any, Array] | None:
        kept = self._cache.find(key)
        if kept is None:
            return None
        try:
            tensor = openvino.Tensor(kept, shared_memory=True)
            return self._core.import_model(tensor, _DEVICE, {**self._settings, "LOADED_FROM_CACHE": True}), kept
        except (RuntimeError, TypeError, ValueError):  # of another version's, or an older one's that takes no tensor
            self._cache.drop(key)
            return None

    def _key(self, bundle: Bundle, component: Component) -> str | None:
        """What a compiled network depends on; None where the bundle's files were not compared with their SHA-256s."""
        files = {name: bundle.manifest.files[name].sha256 for name in bundle.graphs.get(component, ())}
        if not files:
            return None
        made_of = (files, self._settings, openvino.__version__, self._processor, os.cpu_count())
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _replace(model: Any, weights: Iterable[NewWeight], path: Path) -> None:
    """Put other constants in the place of a graph's own, which have the names of its initializers.

    Nothing has been folded or laid out anew before a model is compiled. Raises BackendError for one that is not there.
    """
    constants: dict[str, Any] = {}
    for weight in weights:
        constants = constants or {
            node.get_friendly_name(): node for node in model.get_ops() if node.get_type_name() == "Constant"
        }
        old, new = constants.get(weight.initializer), openvino.op.Constant(weight.values)  # a copy
        if old is None or (old.shape, old.get_element_type()) != (new.shape, new.get_element_type()):
            raise BackendError(
                f"{path.name} has no weight {weight.initializer} as its table says",
                remedy="Export the checkpoint again",
            )
        old.output(0).replace(new.output(0))


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says, without the places in its sources that it says first."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from")]
    return " ".join(" ".join(said).split())[:300] or type(error).__name__
