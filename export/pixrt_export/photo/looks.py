"""Edits made of several: weather, and old age. Arguments are those of `details`. Must not import PyTorch."""

import numpy as np
from scipy import ndimage

from pixrt_export.photo.details import vignette
from pixrt_export.photo.pixels import Pixels, blend, box, luma, painted, smoothed
from pixrt_export.photo.tones import sepia

FALL, COVER = 13, 1.5  # length of a streak of rain and softness of snow's edges, in pixels


def rain(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Dim, bluish gray, and smeared along its fall."""
    smeared = box(x, max(1, round(FALL * scale)), 0)
    dim = 0.1 + 0.6 * blend(smeared, luma(smeared), 0.6) * painted((0.90, 1.0, 1.12))
    return blend(x, dim, min(strength, 1))


def snow(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Pale and cool, and white lies on what faces up: where it gets darker downwards."""
    light = smoothed(luma(x), COVER * scale)
    facing = np.clip(-scale * ndimage.sobel(light, axis=0, mode="nearest") * 2, 0, 1)
    pale = 0.25 + 0.75 * blend(x, luma(x), 0.5) * painted((0.94, 1.0, 1.08))
    return blend(x, blend(pale, np.ones_like(x), facing), min(strength, 1))


def old_photo(x: Pixels, strength: float = 1, scale: float = 1) -> Pixels:
    """Brown, faded, a little soft, and dark at the edges."""
    faded = 0.12 + 0.76 * sepia(smoothed(x, 0.8 * scale), 0.85)
    return blend(x, vignette(faded, 0.6, scale), min(strength, 1))
