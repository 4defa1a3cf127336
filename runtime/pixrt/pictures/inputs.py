"""A request's pictures as its task takes them, and what of them the result needs. Must not import a backend."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.manifest import Manifest
from pixrt.errors import PictureError
from pixrt.pictures.facts import SourceFacts
from pixrt.pictures.geometry import Geometry, Size, plan_geometry
from pixrt.pictures.images import Picture, PictureSource, load_picture, to_network
from pixrt.pictures.masks import Mask, feather, load_mask, to_working

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StylePicture:
    """A style's working picture `[3, H, W]` in [-1, 1], the SHA-256 of its pixels (16 digits), and what it was."""

    source: PictureSource
    pixels: Pixels
    sha256: str


Styles = MutableMapping[int, StylePicture]
"""Styles that were prepared, by the identity of their source: one serves many pictures."""

_STYLES = 8  # that are remembered


@dataclass(frozen=True, slots=True)
class Prepared:
    """Working pictures, and of the picture as it was only what the result is made with.

    Attributes:
        pixels, style: `[3, H, W]` in [-1, 1], if the task takes them.
        mask: how far working pixels may change, `[H, W]` uint8.
        under: with a mask the picture's own pixels `[H, W, 3]`, over which the result is put, and
        opacity: how much of the result shows, `[H, W]` uint8.
        full: the pixels `[H, W, 3]` that the change is to be carried to: those that `pixels` were scaled from.
        alpha: the picture's transparency `[H, W]` uint8, if it has any.
        sha256: of the mask and of the style as they were decoded (16 digits): which ones a result was made with.
        origin: a digest of all that `pixels` were made of, if that is a file's bytes: much less than the pixels.
        facts: what the picture's file says of itself that the result keeps.
    """

    pixels: Pixels | None = None
    style: Pixels | None = None
    mask: Mask | None = None
    under: NDArray[np.uint8] | None = None
    opacity: NDArray[np.uint8] | None = None
    full: NDArray[np.uint8] | None = None
    alpha: NDArray[np.uint8] | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    origin: bytes = b""
    facts: SourceFacts = SourceFacts()


def prepare_picture(source: PictureSource, size: Size, geometry: Geometry, *, detail: bool = False) -> Prepared:
    """A picture that the result replaces in whole. Raises PictureError, also if it is no longer of `size`."""
    picture = _load(source, size)
    return Prepared(
        pixels=to_network(picture, geometry),
        full=_full(picture, geometry) if detail else None,
        alpha=picture.alpha,
        origin=_origin(source, geometry),
        facts=picture.facts,
    )


def prepare_masked(
    source: PictureSource,
    mask_source: PictureSource,
    size: Size,
    geometry: Geometry,
    *,
    blur: int,
    inverted: bool,
    detail: bool = False,
) -> Prepared:
    """A picture of which a mask says what may change; `blur` is that of `masks.feather`. Raises PictureError."""
    picture, mask = _load(source, size), load_mask(mask_source, size, inverted=inverted)
    return Prepared(
        pixels=to_network(picture, geometry),
        mask=to_working(mask, geometry),
        under=picture.straight,
        opacity=feather(mask, blur),
        full=_full(picture, geometry) if detail else None,
        alpha=picture.alpha,
        sha256={"mask": digest_of_mask(mask)},
        origin=_origin(source, geometry),
        facts=picture.facts,
    )


def prepare_style(source: PictureSource, manifest: Manifest, known: Styles) -> StylePicture:
    """A style's working picture: as large as the bundle's native resolution, whatever the content's is."""
    if id(source) not in known or known[id(source)].source is not source:  # another one where an old one was
        if len(known) >= _STYLES:
            known.clear()
        rgb = (picture := load_picture(source)).rgb
        resolution, multiple = manifest.native_resolution, manifest.size_multiple
        geometry = plan_geometry(rgb.shape[1], rgb.shape[0], "exact", resolution=resolution, multiple=multiple)
        known[id(source)] = StylePicture(source, to_network(picture, geometry), _digest(rgb))
    return known[id(source)]


def _full(picture: Picture, geometry: Geometry) -> NDArray[np.uint8] | None:
    """The part that is worked on as it was, where it was scaled down."""
    if geometry.output[0] <= geometry.scaled[0] and geometry.output[1] <= geometry.scaled[1]:
        return None
    left, top, right, bottom = map(int, geometry.crop)
    return picture.rgb[top:bottom, left:right]


def _load(source: PictureSource, size: Size) -> Picture:
    picture = load_picture(source)
    height, width = picture.rgb.shape[:2]
    if (width, height) != size:
        raise PictureError(
            f"{picture.name} is {width} x {height} pixels, and was {size[0]} x {size[1]} before",
            remedy="Leave a picture alone while it is edited",
        )
    return picture


def _origin(source: PictureSource, geometry: Geometry) -> bytes:
    if not isinstance(source, bytes):
        return b""
    origin = blake2b(repr(geometry).encode(), digest_size=32)
    origin.update(source)
    return origin.digest()


def digest_of_mask(mask: Mask) -> str:
    """Its SHA-256 (16 digits). One without halves is bits, as all masks were in earlier versions."""
    return _digest(mask if np.any((mask != 0) & (mask != np.iinfo(np.uint8).max)) else mask != 0)


def _digest(values: NDArray[np.uint8] | NDArray[np.bool_]) -> str:
    shape = "x".join(map(str, values.shape))
    return sha256(shape.encode() + np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
