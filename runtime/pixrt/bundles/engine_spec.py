"""What a bundle's manifest says of its TensorRT engines: for what each was built, and the bytes it must consist of.

`engine_files` reads and judges them, `pixrt_engines` writes them. Must not import numpy, TensorRT or anything of pixrt
but tensor_spec.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pixrt.bundles.tensor_spec import TensorSpec

ENGINES_FOLDER = "engines"

EngineLibrary = Literal["tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The shapes of one input that an engine takes: every dimension from `min` to `max`, tuned for `opt`."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __str__(self) -> str:
        texts = ["x".join(map(str, shape)) or "scalar" for shape in (self.min, self.opt, self.max)]
        return texts[0] if self.is_static else "min {}, opt {}, max {}".format(*texts)

    @property
    def is_static(self) -> bool:
        """Whether there is only one shape."""
        return self.min == self.max

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether the engine takes this shape."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """The shapes of all inputs that an engine takes, by the inputs' names."""

    inputs: dict[str, SizeRange]

    @property
    def is_static(self) -> bool:
        """Whether there is only one shape: such an engine is the fastest, and can be captured in a CUDA graph."""
        return all(sizes.is_static for sizes in self.inputs.values())

    def holds(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether the engine takes inputs of these shapes, given by name."""
        return shapes.keys() == self.inputs.keys() and all(
            sizes.holds(shapes[name]) for name, sizes in self.inputs.items()
        )


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine: its plan file, by which library, from which ONNX, for which GPUs and shapes it was built.

    All `profiles` share the weights; an execution context selects one of them, by its index. `targets` are compute
    capabilities ("sm89"); `gpu` is the name of the GPU it is tied to, "" if it is portable.
    `source_sha256` is one digest over the component's ONNX file and its external weights, `source_bytes` their size.
    `key` is a SHA-256 over all that decides the plan, but for the plan itself. A `stripped` plan holds no weights: they
    come from the bundle when it is loaded. `workspace_bytes`, `optimization_level` and `max_aux_streams` are None if
    the library's default was used.
    """

    component: str
    file: str
    library: EngineLibrary
    library_version: str
    targets: tuple[str, ...]
    gpu: str
    precision: Literal["fp32", "fp16"]
    profiles: tuple[ShapeProfile, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    bytes: int
    sha256: str
    source_sha256: str
    source_bytes: int
    key: str
    refittable: bool
    stripped: bool
    version_compatible: bool
    hardware_compatible: bool
    weight_streaming: bool
    workspace_bytes: int | None
    optimization_level: int | None
    max_aux_streams: int | None

    def holds(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether one of the profiles takes inputs of these shapes."""
        return self.profile_for(shapes) is not None

    def profile_for(self, shapes: Mapping[str, Sequence[int]]) -> int | None:
        """The index of the profile to run inputs of these shapes with, a static one before others; None without one."""
        fitting = [index for index, profile in enumerate(self.profiles) if profile.holds(shapes)]
        return min(fitting, key=lambda index: not self.profiles[index].is_static, default=None)

    def covers(self, profile: ShapeProfile) -> bool:
        """Whether one of the profiles takes all that `profile` does."""
        least = {name: sizes.min for name, sizes in profile.inputs.items()}
        most = {name: sizes.max for name, sizes in profile.inputs.items()}
        return any(own.holds(least) and own.holds(most) for own in self.profiles)
