"""Knobs on the library's builder configuration: which it has here, and how each is set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixrt.bundles.engine_spec import ShapeProfile, SizeRange
from pixrt.errors import EngineError, OptionError, OutputError
from pixrt.files import atomic_write
from pixrt.reading import read_regular
from pixrt_engines.gpu import present_gpu
from pixrt_engines.library import Library
from pixrt_engines.options import Knobs
from pixrt_engines.parsing import Parsed
from pixrt_engines.targets import Targets

# NVIDIA documents wrong numbers of refitted engines: the bias of a matrix product can be dropped.
_NO_REFIT = (11, 3, 0)
_MOST_BYTES = 1 << 30  # of a timing cache


def require_possible(library: Library, knobs: Knobs) -> None:
    """Refuse knobs that the library does not have, or that it has and that do not work.

    Raises OptionError, or EngineError if a GPU is needed and there is none.
    """
    if library.is_rtx:
        _require_possible_on_rtx(library, knobs)
    elif library.numbers[:3] == _NO_REFIT and knobs.refittable:
        raise OptionError(
            f"refitting an engine of {library.name} {library.version} is documented to give wrong numbers",
            remedy="Install another version, or leave --refittable out",
        )
    elif knobs.version_compatible and (knobs.refittable or knobs.strip):
        raise OptionError(
            f"{library.name}'s lean runtime, which runs version-compatible engines, cannot refit one",
            remedy="Leave --version-compatible out, or --refittable and --strip",
        )


def _require_possible_on_rtx(library: Library, knobs: Knobs) -> None:
    name = f"{library.name} {library.version}"
    refused = {
        "timing cache": (knobs.timing_cache, "It has none: kernels are chosen when an engine is loaded"),
        "version compatibility": (knobs.version_compatible, "It lacks the lean runtime: build again for each version"),
        "hardware compatibility": (knobs.hardware_compatible, "Name several targets instead: --target sm80,sm89"),
    }
    for knob, (asked, remedy) in refused.items():
        if asked:
            raise OptionError(f"{name} builds no engines with {knob}", remedy=remedy)
    if (knobs.refittable or knobs.strip) and present_gpu() is None:
        raise EngineError(f"{name} builds refittable and stripped engines only on a machine with a GPU", remedy=_NO_GPU)


_NO_GPU = "Build on a machine with a GPU, or leave --refittable and --strip out"


def configure(
    library: Library, parsed: Parsed, profiles: Sequence[ShapeProfile], targets: Targets, knobs: Knobs
) -> Any:
    """An `IBuilderConfig` for these profiles, in this order. Raises EngineError if the library refuses the profile."""
    trt = library.module
    config = parsed.builder.create_builder_config()
    flags = {
        "VERSION_COMPATIBLE": knobs.version_compatible,
        "WEIGHT_STREAMING": knobs.weight_streaming,
        "REFIT": knobs.refittable,
        "STRIP_PLAN": knobs.strip,
        # A stripped plan gets the weights back that it was built with, so they may be folded into its kernels.
        "REFIT_IDENTICAL": knobs.strip and not knobs.refittable,
        # What TensorRT-RTX allocates itself at a run cannot be captured in a CUDA graph.
        "REQUIRE_USER_ALLOCATION": library.is_rtx,
    }
    for flag, wanted in flags.items():
        if wanted:
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if library.is_rtx:
        config.num_compute_capabilities = len(targets.capabilities)
        for index, name in enumerate(targets.capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index)
    if knobs.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if knobs.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, knobs.workspace_mib << 20)
    if knobs.optimization_level is not None:
        config.builder_optimization_level = knobs.optimization_level
    if knobs.max_aux_streams is not None:
        config.max_aux_streams = knobs.max_aux_streams
    for index in range(parsed.network.num_inputs):
        # Said of the network too: a size that is every profile's is none of the engine that is free.
        tensor = parsed.network.get_input(index)
        tensor.shape = _common([profile.inputs[tensor.name] for profile in profiles])
    for profile in profiles:
        shapes = parsed.builder.create_optimization_profile()
        for name, sizes in profile.inputs.items():
            shapes.set_shape(name, sizes.min, sizes.opt, sizes.max)
        if config.add_optimization_profile(shapes) < 0:
            raise EngineError(
                f"{library.name} refuses the profile: {'; '.join(parsed.logger.lines)[:300]}",
                remedy="Use other sizes, or report it",
            )
    return config


def _common(sizes: Sequence[SizeRange]) -> tuple[int, ...]:
    """The shape that all have in common, -1 where they differ."""
    every = [shape for size in sizes for shape in (size.min, size.max)]
    return tuple(found[0] if len(set(found)) == 1 else -1 for found in zip(*every, strict=True))


def load_timing_cache(config: Any, folder: Path, name: str) -> None:
    """Give a build the kernel timings of earlier ones on the same GPU. Raises OutputError if they are unreadable."""
    path = folder / name

    def refuse(problem: str) -> OutputError:
        return OutputError(f"the timing cache cannot be read: {problem}", remedy="Remove it")

    data = read_regular(path, _MOST_BYTES, refuse) if path.exists() else b""
    if not config.set_timing_cache(config.create_timing_cache(data), False):
        raise OutputError(f"the timing cache {path} is of another GPU or version", remedy="Remove it")


def save_timing_cache(config: Any, folder: Path, name: str) -> None:
    """Keep the kernel timings for later builds. Raises OutputError."""
    with atomic_write(folder / name) as file:
        file.write(memoryview(config.get_timing_cache().serialize()))


def timing_cache_name(library: Library, targets: Targets) -> str:
    """The cache's file name: timings of one GPU and version mislead another."""
    gpu = "".join(c if c.isalnum() else "-" for c in targets.gpu)
    return f"{library.name}-{library.version}-{gpu}-{'-'.join(targets.capabilities)}.cache"
