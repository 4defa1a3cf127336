"""Edits of every pixel by itself: light, contrast, colour. Must not import PyTorch.

Each takes pixels FP32 [H, W, 3] in [0, 1] and a strength, 1 as a rule; 0 changes nothing. What comes out may lie beyond
[0, 1]: it is cut when the edit is done.
"""

import numpy as np

from pixrt_export.photo.pixels import Colour, Pixels, blend, from_hsv, gray, hsv, luma, painted

HUES = {"red": 0.0, "yellow": 55.0, "green": 120.0, "blue": 220.0, "purple": 285.0}  # degrees
TINTS: dict[str, Colour] = {
    "red": (1.0, 0.25, 0.2),
    "orange": (1.0, 0.6, 0.15),
    "yellow": (1.0, 0.95, 0.2),
    "green": (0.25, 0.85, 0.3),
    "teal": (0.15, 0.8, 0.8),
    "blue": (0.25, 0.4, 1.0),
    "purple": (0.6, 0.25, 0.9),
    "pink": (1.0, 0.5, 0.75),
}
SEPIA: Colour = (1.08, 0.88, 0.64)
HUE_REACH = 35.0  # degrees to either side that count as a colour in full; they fade out over as many again


def black_and_white(x: Pixels, strength: float = 1) -> Pixels:
    """Luminance only."""
    return blend(x, gray(luma(x)), min(strength, 1))


def sepia(x: Pixels, strength: float = 1) -> Pixels:
    """Luminance in brown."""
    return blend(x, luma(x) * painted(SEPIA), min(strength, 1))


def warmer(x: Pixels, strength: float = 1) -> Pixels:
    """More red, less blue."""
    return x * painted((1 + 0.20 * strength, 1 + 0.02 * strength, 1 - 0.30 * strength))


def cooler(x: Pixels, strength: float = 1) -> Pixels:
    """Less red, more blue."""
    return x * painted((1 - 0.30 * strength, 1 - 0.02 * strength, 1 + 0.20 * strength))


def brighter(x: Pixels, strength: float = 1) -> Pixels:
    """A gamma that lifts the middle."""
    lifted: Pixels = x ** (1 / (1 + 0.8 * strength))
    return lifted


def darker(x: Pixels, strength: float = 1) -> Pixels:
    """A gamma that lowers the middle."""
    lowered: Pixels = x ** (1 + 0.9 * strength)
    return lowered


def more_contrast(x: Pixels, strength: float = 1) -> Pixels:
    """Away from middle gray."""
    return 0.5 + (x - 0.5) * (1 + 0.8 * strength)


def less_contrast(x: Pixels, strength: float = 1) -> Pixels:
    """Towards middle gray."""
    return 0.5 + (x - 0.5) / (1 + 1.2 * strength)


def more_saturated(x: Pixels, strength: float = 1) -> Pixels:
    """Away from the luminance."""
    return blend(luma(x), x, 1 + strength)


def less_saturated(x: Pixels, strength: float = 1) -> Pixels:
    """Towards the luminance."""
    return blend(luma(x), x, 1 / (1 + 1.5 * strength))


def invert(x: Pixels, strength: float = 1) -> Pixels:
    """The negative."""
    return blend(x, 1 - x, min(strength, 1))


def fog(x: Pixels, strength: float = 1) -> Pixels:
    """A veil of pale gray: the picture shines through."""
    return blend(x, painted((0.80, 0.83, 0.86)), 1 - float(np.exp(-0.9 * strength)))


def night(x: Pixels, strength: float = 1) -> Pixels:
    """Dark, pale and blue."""
    dim = blend(x, luma(x), 0.5) ** 1.3 * painted((0.30, 0.40, 0.70))
    return blend(x, dim, min(strength, 1))


def sunset(x: Pixels, strength: float = 1) -> Pixels:
    """Orange where it is light, purple where it is dark."""
    shadow = 1 - luma(x)
    lit = x * painted((1.20, 0.80, 0.50)) + shadow * painted((0.22, 0.04, 0.16))
    return blend(x, lit, min(strength, 1))


def tint(x: Pixels, strength: float = 1, *, colour: str) -> Pixels:
    """Half of the picture in shades of one colour of TINTS."""
    shades = (0.2 + 0.8 * luma(x)) * painted(TINTS[colour])
    return blend(x, shades, 1 - 0.45**strength)


def swap(x: Pixels, strength: float = 1, *, old: str, new: str) -> Pixels:
    """What has one hue of HUES gets another; as light and as strong as it was. Grays stay."""
    hue, saturation, value = hsv(x)
    away = np.abs((hue - HUES[old] + 180) % 360 - 180)
    share = np.clip(2 - away / HUE_REACH, 0, 1) * np.clip((saturation - 0.15) / 0.2, 0, 1)
    turned = from_hsv(np.full_like(hue, HUES[new]), saturation, value)
    return blend(x, turned, (share * min(strength, 1))[..., None].astype(np.float32))
