"""Other weights in an engine that is open: TensorRT's refit, with a record of what has been replaced.

Writing only the weights that a new LoRA changes would leave an earlier one's in place, so what is not replaced any more
is set back to the bundle's own values, which are checked to be the ones that were there. Must not import TensorRT.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixrt.backends.protocol import Array, NewWeight
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.errors import EngineError


class Refit:
    """The weights in use in place of an engine's own; applied to each plan of a component.

    The record is per component: all its plans are refitted alike, and a plan opened later at once.
    """

    def __init__(self, module: Any, log: Any, bundle: Bundle, component: Component) -> None:
        self._module = module
        self._log = log
        self._bundle = bundle
        self._component = component
        self._current: dict[str, NewWeight] = {}
        # Every weight that was ever replaced, by its base's SHA-256 at that time.
        self._bases: dict[str, tuple[NewWeight, str]] = {}

    @property
    def is_dirty(self) -> bool:
        """Whether weights are in use that are not the bundle's."""
        return bool(self._current)

    def use(self, weights: Sequence[NewWeight]) -> None:
        """From the next `apply` on use these, and no others."""
        for weight in weights:
            if weight.initializer not in self._bases:
                self._bases[weight.initializer] = weight, _digest(self._base(weight))
        self._current = {weight.initializer: weight for weight in weights}

    def apply(self, engine: Any) -> None:
        """Refit an engine: the weights in use, and the bundle's own wherever others may have been before.

        Raises EngineError where the library refuses, or the bundle's weights have changed since they were replaced.
        """
        if not self._bases:
            return
        refitter = make_refitter(self._module, engine, self._log)
        held = {}  # the library reads the arrays when it refits, not before
        for name, (weight, digest) in self._bases.items():
            values = self._current[name].values if name in self._current else self._base(weight)
            if name not in self._current and _digest(values) != digest:
                raise EngineError(
                    f"the weight {name} in {weight.file} is not what it was when a LoRA replaced it",
                    remedy="Open the bundle again",
                )
            held[name] = np.ascontiguousarray(values)
        self._set(refitter, held)
        if refitter.get_missing_weights():
            # Some kernels hold several weights at once: all are set, and ours over them again. What the parser reads
            # is its own until the engine has it.
            parser = self._module.OnnxParserRefitter(refitter, self._log)
            with self._bundle.loading(self._component) as onnx:
                if not parser.refit_from_file(str(onnx)):
                    raise self._refused("together")
            self._set(refitter, held)
        if not refitter.refit_cuda_engine():
            raise self._refused("together")

    def _set(self, refitter: Any, held: Mapping[str, Array]) -> None:
        for name, values in held.items():
            if not refitter.set_named_weights(name, self._module.Weights(values)):
                raise self._refused(name)

    def _base(self, weight: NewWeight) -> Array:
        """The bundle's own values. Raises EngineError; BundleAltered where the file is not that which was checked."""
        path = self._bundle.folder / weight.file
        try:
            values = np.fromfile(path, weight.values.dtype, weight.values.size, offset=weight.offset)
            self._bundle.require_unchanged(weight.file)
            return values.reshape(weight.values.shape)
        except (OSError, ValueError) as error:
            raise EngineError(f"{path} cannot be read: {error}", remedy="Export again") from error

    def _refused(self, name: str) -> EngineError:
        return EngineError(f"the engine does not take other weights ({name}): {self._log.last}", remedy=_MERGE)


def make_refitter(module: Any, engine: Any, log: Any) -> Any:
    """A refitter of an engine. Raises EngineError."""
    try:
        return module.Refitter(engine, log)
    except TypeError as error:  # what the binding makes of a refusal
        raise EngineError(f"the engine does not take other weights: {log.last}", remedy=_MERGE) from error


def refit_whole(module: Any, log: Any, engine: Any, onnx: Path) -> None:
    """Give a plan without weights those of its ONNX file. Raises EngineError."""
    refitter = make_refitter(module, engine, log)
    parser = module.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(str(onnx)) or not refitter.refit_cuda_engine():
        raise EngineError(
            f"the weights of {onnx.name} do not fit the engine: {log.last}", remedy="Build it again with `pixrt build`"
        )


def _digest(values: Array) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


_MERGE = "Merge the LoRA: `pixrt export --lora`, then `pixrt build`"
