"""Crops of photographs, scaled, mirrored and recoloured: what samples begin with. Must not import PyTorch."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixrt_export.photo.pixels import Pixels, luma, to_picture, to_pixels
from pixrt_export.photo.procedural import noise, procedural
from pixrt_export.photo.sources import HELD_OUT, TRAIN, photograph

Split: TypeAlias = Literal["train", "held-out"]
PROCEDURAL = 0.3  # share of the training pictures
RECOLOURED = 0.6  # share of the training photographs
LARGEST = 4.6  # pixels of a photograph in one of a training crop
# Photographs in colour more often: there are few.
WEIGHTS = dict.fromkeys(TRAIN, 1.0) | {
    "coffee.png": 4.0,
    "rocket.jpg": 4.0,
    "camera.png": 4.0,
    "hubble_deep_field.jpg": 0.5,
}


def crop(rng: np.random.Generator, size: int, split: Split) -> NDArray[np.uint8]:
    """Draw a picture [size, size, 3] from one side of the split. Raises PackageMissing, PictureError."""
    if split == "held-out":
        return _cut(photograph(str(rng.choice(list(HELD_OUT)))), rng, size)
    if rng.random() < PROCEDURAL:
        return to_picture(procedural(rng, size))
    names, weights = list(WEIGHTS), np.array(list(WEIGHTS.values()))
    picture = _cut(photograph(str(rng.choice(names, p=weights / weights.sum()))), rng, size)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.2:
        picture = np.rot90(picture, int(rng.integers(1, 4)))
    gray = bool((np.ptp(picture, axis=2) < 8).mean() > 0.95)
    if rng.random() < (0.85 if gray else RECOLOURED):
        picture = to_picture(recoloured(to_pixels(picture), rng, gray=gray))
    return np.ascontiguousarray(picture)


def recoloured(x: Pixels, rng: np.random.Generator, *, gray: bool) -> Pixels:
    """Other colours for a picture [H, W, 3] in [0, 1]; a gray one is painted, by lightness and by place."""
    if gray:
        stops = np.sort(rng.random(2))
        colours = np.concatenate([rng.random((1, 3)) * 0.4, rng.random((2, 3)), 1 - rng.random((1, 3)) * 0.4])
        light, at = luma(x)[..., 0], np.array([0, *stops, 1])
        x = np.stack([np.interp(light, at, channel) for channel in colours.T], axis=2).astype(np.float32)
        veil = noise(rng, len(x), 1.6)[..., None] - 0.5
        x += veil * (rng.random(3, np.float32) - 0.5) * 1.5
    else:
        x = x[..., rng.permutation(3)]
    gains, lift = rng.uniform(0.6, 1.25, 3), rng.uniform(-0.15, 0.15)
    pixels: Pixels = np.clip(x * gains + lift, 0, 1).astype(np.float32) ** rng.uniform(0.65, 1.5)
    return pixels


def _cut(picture: NDArray[np.uint8], rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A random square of the picture, scaled down, or up where the picture is too small, to [size, size, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width, round(size * LARGEST ** rng.random()))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    square = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=None))
