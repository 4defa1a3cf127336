"""What to build, and how: validated once, before a library is asked. Must not import TensorRT."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixrt.bundles.manifest import Component
from pixrt.errors import OptionError
from pixrt.options.fields import option, validate
from pixrt.options.session import MAX_BATCH, SessionOptions

# An editor lets so many pictures advance together, if nothing else is said.
DEFAULT_BATCH = (1, SessionOptions().max_batch)
_TARGET = re.compile(r"native|sm\d{2,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """How an engine is built. None means the library's default. Validated on construction: OptionError.

    INT8 and FP8 have no knob: networks are strongly typed, so a graph with Q/DQ nodes, as ModelOpt writes them, is
    built as it is.
    """

    workspace_mib: int | None = option(
        None, "Scratch memory of the kernels at most, in MiB.", kind="whole", low=1, high=1 << 20, group="Engine"
    )
    optimization_level: int | None = option(
        None, "How long kernels are searched for.", kind="whole", low=0, high=5, group="Engine"
    )
    max_aux_streams: int | None = option(
        None, "Streams beside the main one; 0: least memory.", kind="whole", low=0, high=128, group="Engine"
    )
    timing_cache: Path | None = option(
        None, "Folder of kernel timings, a file per GPU and version; not RTX.", kind="path", group="Engine"
    )
    version_compatible: bool = option(
        False, "Loads in later versions of the same major too; not RTX.", kind="flag", group="Engine"
    )
    hardware_compatible: bool = option(
        False, "Runs on Ampere and every later GPU; not RTX.", kind="flag", group="Engine"
    )
    weight_streaming: bool = option(
        False, "Weights may stay in host memory when it is run.", kind="flag", group="Engine"
    )
    refittable: bool = option(False, "Weights can be replaced after loading, by LoRAs.", kind="flag", group="Engine")
    strip: bool = option(
        False, "Leave the weights out; they come from the bundle when it is loaded.", kind="flag", group="Engine"
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Which engines. Validated on construction: OptionError.

    `targets` are all when empty, `components` all but a UNet that has a fused step; `sizes` are width and height in
    pixels, `branches` how many networks' answers guidance combines (1 to 3): see `plan_profiles` for empty ones.
    `batch` is the least and the most pictures at once. `rebuild` builds what is there already; `prune` removes, after
    the build, the engines of these components that were not asked for.
    """

    bundle: str
    components: tuple[Component, ...] = ()
    library: str = "auto"
    targets: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    batch: tuple[int, int] = DEFAULT_BATCH
    branches: tuple[int, ...] = ()
    knobs: Knobs = Knobs()
    rebuild: bool = False
    prune: bool = False

    def __post_init__(self) -> None:
        for name in ("components", "targets", "sizes", "branches"):
            _require_unique(name, getattr(self, name))
        for target in self.targets:
            if _TARGET.fullmatch(target) is None:
                raise OptionError(f"target is {target!r}", remedy="Write it as sm89, or native for the GPU at hand")
        low, high = self.batch
        _require_whole("batch", low, 1, MAX_BATCH)
        _require_whole("batch", high, low, MAX_BATCH)
        for branches in self.branches:
            _require_whole("branches", branches, 1, 3)


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Sizes such as "512x512,768x512": width and height in pixels. Raises OptionError."""
    sizes = []
    for part in _parts(text):
        match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", part)
        if match is None:
            raise OptionError(f"size is {part!r}", remedy="Write it as WIDTHxHEIGHT in pixels, such as 512x512")
        sizes.append((int(match[1]), int(match[2])))
    return tuple(sizes)


def parse_batch(text: str) -> tuple[int, int]:
    """A number, or a range such as "1-4". Raises OptionError."""
    match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", text)
    if match is None:
        raise OptionError(f"batch is {text!r}", remedy="Write a number, or a range such as 1-4")
    return int(match[1]), int(match[2] or match[1])


def parse_branches(text: str) -> tuple[int, ...]:
    """Numbers such as "1,2,3". Raises OptionError."""
    parts = _parts(text)
    for part in parts:
        if re.fullmatch(r"\d{1,6}", part) is None:
            raise OptionError(f"branches is {part!r}", remedy="Write some of 1,2,3")
    return tuple(map(int, parts))


def parse_targets(text: str) -> tuple[str, ...]:
    """Targets such as "sm86,sm89". `BuildOptions` checks them."""
    return tuple(part.lower() for part in _parts(text))


def parse_components(names: list[str]) -> tuple[Component, ...]:
    """Components by name. Raises OptionError."""
    for name in names:
        if name not in list(Component):
            raise OptionError(f"component is {name!r}", remedy=f"Choose some of {', '.join(Component)}")
    return tuple(map(Component, names))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OptionError(f"{name} is {value!r:.60}", remedy=f"It must be a whole number from {low} to {high}")


def _require_unique(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise OptionError(f"{name} names {value} twice", remedy="Give each once")
