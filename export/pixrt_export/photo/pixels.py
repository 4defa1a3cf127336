"""What the edits are written with: pictures as FP32 in [0, 1], luminance, hues. Must not import PyTorch."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels: TypeAlias = NDArray[np.float32]  # [H, W, 3], or a plane [H, W]; 0 is black, 1 white
Colour: TypeAlias = tuple[float, float, float]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def to_pixels(picture: NDArray[np.uint8]) -> Pixels:
    """uint8 [H, W, 3] to FP32 in [0, 1]."""
    return picture.astype(np.float32) / np.float32(255)


def to_picture(pixels: Pixels) -> NDArray[np.uint8]:
    """FP32 [H, W, 3] to uint8, rounded; what is beyond black and white is cut."""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def luma(x: Pixels) -> Pixels:
    """Luminance of [H, W, 3] as [H, W, 1]."""
    return (x @ _LUMA)[..., None]


def gray(plane: Pixels) -> Pixels:
    """A plane [H, W, 1] as a picture [H, W, 3]."""
    return np.repeat(plane, 3, axis=2)


def blend(x: Pixels, other: Pixels, share: float | Pixels) -> Pixels:
    """`share` of the other picture in place of as much of `x`."""
    mixed: Pixels = x + (other - x) * share
    return mixed


def painted(colour: Colour) -> Pixels:
    """A colour that multiplies or fills a picture: [3]."""
    return np.array(colour, np.float32)


def smoothed(x: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of [H, W, C], `sigma` in pixels; beyond its edge a picture goes on as it ends there."""
    if sigma <= 0:
        return x
    blurred: Pixels = ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=3)
    return blurred


def box(x: Pixels, side: int, axis: int) -> Pixels:
    """Mean of `side` pixels along an axis of [H, W, C]."""
    mean: Pixels = ndimage.uniform_filter1d(x, side, axis=axis, mode="nearest")
    return mean


def hsv(x: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Hue in degrees, saturation and value, each [H, W]."""
    value, least = x.max(axis=2), x.min(axis=2)
    span = value - least
    safe = np.where(span > 0, span, 1)
    r, g, b = np.moveaxis(x, 2, 0)
    sector = np.where(value == r, (g - b) / safe % 6, np.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    return (60 * sector).astype(np.float32), np.where(value > 0, span / np.maximum(value, 1e-6), 0), value


def from_hsv(hue: Pixels, saturation: Pixels, value: Pixels) -> Pixels:
    """The inverse of `hsv`: [H, W, 3]."""
    offsets = np.array([5, 3, 1], np.float32)
    k = (offsets + hue[..., None] / 60) % 6
    pixels: Pixels = value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))
    return pixels
