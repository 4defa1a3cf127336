"""Shapes of a request as profiles: a few static ones per component, and one dynamic one for everything between.

Pure: sizes in pixels and a tensor table go in, `ShapeProfile`s come out. One plan holds all of a component's, which
share its weights: a further profile costs the code of its kernels. Must not import TensorRT.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pixrt.bundles.engine_spec import ShapeProfile, SizeRange
from pixrt.bundles.manifest import Component, Manifest, TensorSpec
from pixrt.errors import OptionError
from pixrt.pictures.geometry import MAX_ASPECT, MAX_WORKING_PIXELS

MAX_STATIC = 16
MAX_AREA_RATIO = 64


@dataclass(frozen=True, slots=True)
class Point:
    """One way of running a bundle: the working picture in pixels, pictures at once, branches of the guidance."""

    width: int
    height: int
    batch: int
    branches: int


@dataclass(frozen=True, slots=True)
class NamedProfile:
    """A profile and a short readable name of it: "512x512-3rows"; a plan of one profile has it in its file's name."""

    name: str
    profile: ShapeProfile


# What a free dimension stands for, by component and name: a number out of a point and the bundle.
_Size = Callable[[Point, Manifest], int]
_PIXELS: dict[str, _Size] = {"height": lambda p, m: p.height, "width": lambda p, m: p.width}
_LATENTS: dict[str, _Size] = {
    "height": lambda p, m: p.height // m.latents.scale,
    "width": lambda p, m: p.width // m.latents.scale,
}
_VAE: dict[str, _Size] = {
    # The runtime encodes and decodes one picture at a time.
    "batch": lambda p, m: 1,
    **_PIXELS,
    **{f"latent_{name}": size for name, size in _LATENTS.items()},
}
_TOKENS: dict[str, _Size] = {"tokens": lambda p, m: m.tokenizers[0].max_length}
_FREE: dict[Component, dict[str, _Size]] = {
    Component.TEXT_ENCODER: {"batch": lambda p, m: 1, **_TOKENS},  # the runtime encodes one text at a time
    Component.UNET: {"batch": lambda p, m: p.batch * p.branches, **_TOKENS, **_LATENTS},
    Component.VAE_ENCODER: _VAE,
    Component.VAE_DECODER: _VAE,
    Component.VAE_DECODER_FP32: _VAE,
    Component.UNET_STEP: {
        "batch": lambda p, m: p.batch,
        "rows": lambda p, m: p.batch * p.branches,
        "sources": lambda p, m: p.batch + 1,  # the last one is zeros, for the branch without a source
        **_TOKENS,
        **_LATENTS,
    },
}


def plan_profiles(
    component: Component,
    manifest: Manifest,
    sizes: Sequence[tuple[int, int]],
    batch: tuple[int, int],
    branches: Sequence[int],
) -> list[NamedProfile]:
    """The profiles of a component's plan, the static ones first.

    A static one is made for each size with each number of branches at the smallest batch: one edit, where latency
    counts. Larger batches, and sizes between, are the dynamic one's. Shapes that are the same make one profile. Without
    sizes the static one is the native square, and the dynamic one takes pictures of that longer side whose shorter is
    half of it or more; without branches the static one has those of the usual edit, and the dynamic one takes fewer.
    Raises OptionError for sizes and counts that the bundle cannot run, or that would waste hours and disks.
    """
    native, multiple = manifest.native_resolution, manifest.size_multiple
    half = -(-native // 2 // multiple) * multiple
    usual = 2 if manifest.task == "generate" else 3
    static_sizes, sizes = sizes or ((native, native),), sizes or ((native, native), (half, half))
    static_branches, branches = branches or (usual,), branches or tuple(range(1, usual + 1))
    _check_sizes(sizes, manifest)
    _check_branches(branches, manifest)
    low, high = batch
    static: dict[str, NamedProfile] = {}
    for width, height in static_sizes:
        for count in static_branches:
            named = _static(component, manifest, Point(width, height, low, count))
            static.setdefault(named.name, named)
    if len(static) > MAX_STATIC:
        raise OptionError(
            f"{len(static_sizes)} sizes and {len(static_branches)} numbers of branches make {len(static)} static"
            f" profiles of the {component}, more than {MAX_STATIC}",
            remedy="Ask for fewer sizes: the dynamic profile takes those between the smallest and the largest",
        )
    widths, heights = zip(*sizes, strict=True)
    least = Point(min(widths), min(heights), low, min(branches))
    most = Point(max(widths), max(heights), high, max(branches))
    tuned = Point(*sizes[0], high, max(branches))
    dynamic = ShapeProfile(_ranges(component, manifest, least, tuned, most))
    if dynamic.is_static or (len(sizes) == 1 and low == high and len(branches) == len(static_branches)):
        return list(static.values())  # there is nothing between them
    return [*static.values(), NamedProfile("dynamic", dynamic)]


def _static(component: Component, manifest: Manifest, point: Point) -> NamedProfile:
    sizes = _FREE[component]
    parts = []
    if "width" in sizes:
        parts.append(f"{point.width}x{point.height}")
    if component is Component.UNET_STEP:
        parts.append(f"batch{point.batch}")
    rows = sizes.get("rows", sizes["batch"])(point, manifest)
    if component in (Component.UNET, Component.UNET_STEP):
        parts.append(f"{rows}row{'s' if rows > 1 else ''}")
    return NamedProfile("-".join(parts) or "static", ShapeProfile(_ranges(component, manifest, point, point, point)))


def _ranges(component: Component, manifest: Manifest, least: Point, tuned: Point, most: Point) -> dict[str, SizeRange]:
    table = manifest.component(component).inputs

    def shape(tensor: TensorSpec, point: Point) -> tuple[int, ...]:
        return tuple(_number(component, tensor, size, _FREE[component], point, manifest) for size in tensor.shape)

    return {t.name: SizeRange(shape(t, least), shape(t, tuned), shape(t, most)) for t in table}


def _number(
    component: Component,
    tensor: TensorSpec,
    size: int | str,
    free: Mapping[str, _Size],
    point: Point,
    manifest: Manifest,
) -> int:
    if isinstance(size, int):
        return size
    if size not in free:
        raise OptionError(
            f"the {component}'s input {tensor.name} has a free dimension {size!r} that is not known",
            remedy=f"The names are {', '.join(free)}: export the checkpoint again with `pixrt export`",
        )
    return free[size](point, manifest)


def _check_sizes(sizes: Sequence[tuple[int, int]], manifest: Manifest) -> None:
    multiple = manifest.size_multiple
    for width, height in sizes:
        name = f"size {width}x{height}"
        if min(width, height) < multiple:
            raise OptionError(f"{name} is too small", remedy=f"The sides of this bundle are {multiple} pixels or more")
        if width % multiple or height % multiple:
            near = "x".join(str(-(-side // multiple) * multiple) for side in (width, height))
            raise OptionError(f"{name} is no multiple of {multiple}, as this bundle needs", remedy=f"Use {near}")
        if width * height > MAX_WORKING_PIXELS:
            raise OptionError(
                f"{name} has {width * height / 1e6:.1f} megapixels",
                remedy=f"The runtime works on up to {MAX_WORKING_PIXELS / 1e6:.1f}",
            )
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise OptionError(
                f"{name}: one side is more than {MAX_ASPECT} times the other",
                remedy="The runtime refuses such pictures",
            )
    areas = sorted(width * height for width, height in sizes)
    if areas[-1] > MAX_AREA_RATIO * areas[0]:
        raise OptionError(
            f"the largest size has {areas[-1] / areas[0]:.0f} times the pixels of the smallest, and one dynamic"
            f" profile is slow over more than {MAX_AREA_RATIO}",
            remedy="Build for the small and the large sizes in two commands",
        )


def _check_branches(branches: Sequence[int], manifest: Manifest) -> None:
    if manifest.task == "generate" and max(branches) > 2:
        raise OptionError(
            f"branches is {max(branches)}, and {manifest.name!r} has no source picture to guide by",
            remedy="Its edits run 1 or 2: pass --branches 1,2",
        )
