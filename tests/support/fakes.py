"""A network in plain NumPy behind the `Engine` protocol, for tests of the loop."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.host import HostCall
from pixrt.backends.protocol import Array, BoundCall, check_binding
from pixrt.bundles.manifest import ComponentSpec, ExportCheck, TensorSpec
from pixrt.errors import BackendError

TOKENS, WIDTH = 7, 5


def unet_spec(dtype: Any = "float32", channels: int = 4, source: int = 4) -> ComponentSpec:
    return ComponentSpec(
        file="unet.onnx",
        inputs=(
            TensorSpec("sample", dtype, ("batch", channels + source, "height", "width")),
            TensorSpec("timestep", "float32", ("batch",)),
            TensorSpec("encoder_hidden_states", dtype, ("batch", TOKENS, WIDTH)),
        ),
        outputs=(TensorSpec("out_sample", dtype, ("batch", channels, "height", "width")),),
        kept_fp32=(),
        check=ExportCheck(0, 0, 0),
    )


def deep_specs(spec: ComponentSpec, channels: int) -> tuple[ComponentSpec, ComponentSpec]:
    """The same UNet with the feature that its shallow layers go on from, and the shallow network."""
    feature = TensorSpec("deep_feature", "float32", ("batch", channels, "deep_height", "deep_width"))
    whole = dataclasses.replace(spec, outputs=(*spec.outputs, feature))
    return whole, dataclasses.replace(spec, inputs=(*spec.inputs, feature))


class NumpyEngine:
    """Computes the outputs as `network(sample, timestep, encoder_hidden_states)` does, and counts its rows."""

    def __init__(
        self,
        network: Callable[..., Array | tuple[Array, ...]],
        dtype: Any = "float32",
        source: int = 4,
        spec: ComponentSpec | None = None,
    ) -> None:
        self._network = network
        self._spec = spec or unet_spec(dtype, source=source)
        self.inputs, self.outputs = self._spec.inputs, self._spec.outputs
        self.rows: list[int] = []
        self.fails = False
        self.samples: list[Array] = []

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        return np.zeros(shape, dtype)

    def bind(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None = None) -> BoundCall:
        check_binding(self._spec, tensors)

        def prepare(arrays: Mapping[str, Array]) -> Callable[[], None]:
            def call() -> None:
                if self.fails:
                    raise BackendError("the network failed", remedy="Try again")
                self.rows.append(len(arrays["sample"]))
                self.samples.append(arrays["sample"].copy())
                made = self._network(*(arrays[tensor.name] for tensor in self.inputs))
                for tensor, values in zip(self.outputs, made if isinstance(made, tuple) else (made,), strict=True):
                    arrays[tensor.name][:] = values

            return call

        return HostCall(tensors, held, prepare)

    def close(self) -> None:
        return None


def smooth_network(sample: Array, timestep: Array, context: Array) -> NDArray[np.float32]:
    """A bounded function of every input, different per row."""
    noisy, source = sample[:, :4].astype(np.float32), sample[:, 4:].astype(np.float32)
    text = context.astype(np.float32).mean(axis=(1, 2))[:, None, None, None]
    time = (timestep / 1000)[:, None, None, None]
    return np.tanh(0.7 * noisy + 0.3 * source * text + 0.1 * time).astype(np.float32)
