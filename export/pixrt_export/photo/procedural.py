"""Pictures of natural statistics out of nothing (Baradad et al. 2021, arXiv:2106.05963). Must not import PyTorch.

Dead leaves: shapes of power-law sizes that hide one another (Lee, Mumford and Huang 2001), each filled with a texture.
"""

import numpy as np

from pixrt_export.photo.pixels import Pixels

SLOPE = (0.9, 1.7)  # of the amplitude spectrum 1 / f^slope; photographs are near 1 (Field 1987)


def procedural(rng: np.random.Generator, size: int) -> Pixels:
    """A picture [size, size, 3] in [0, 1]: a texture, or dead leaves of textures."""
    picture = texture(rng, size)
    if rng.random() < 0.25:
        return picture
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    fills = [texture(rng, size) for _ in range(3)]
    for _ in range(rng.integers(6, 60)):
        mask = _leaf(rng, size, rows, columns)
        colour = rng.random(3, np.float32)
        if rng.random() < 0.5:
            filled = np.broadcast_to(colour, picture.shape)
        else:
            filled = 0.6 * fills[rng.integers(3)] + 0.4 * colour
        picture = picture + (filled - picture) * mask[..., None]
    return picture.astype(np.float32)


def texture(rng: np.random.Generator, size: int) -> Pixels:
    """1/f noise, a grating, or a gradient, in two or three colours: [size, size, 3] in [0, 1]."""
    sort = rng.random()
    if sort < 0.6:
        plane = noise(rng, size, rng.uniform(*SLOPE))
    else:
        angle, rows, columns = rng.uniform(0, np.pi), *np.mgrid[:size, :size].astype(np.float32) / size
        along = np.cos(angle) * columns + np.sin(angle) * rows
        waves = 2 ** rng.uniform(-1, 3.5)
        plane = along if sort < 0.8 else 0.5 + 0.5 * np.sin(2 * np.pi * (waves * along + rng.random()))
    low, high = rng.random((2, 3), np.float32)
    colours = low + (high - low) * np.clip(plane, 0, 1)[..., None]
    if rng.random() < 0.5:  # and colours that come and go on their own
        colours = colours + (noise(rng, size, 1.5)[..., None] - 0.5) * (rng.random(3, np.float32) - 0.5)
    pixels: Pixels = np.clip(colours, 0, 1).astype(np.float32)
    return pixels


def noise(rng: np.random.Generator, size: int, slope: float) -> Pixels:
    """A plane [size, size] of noise with amplitudes 1 / f^slope, about 0.5, most of it in [0, 1]."""
    across, down = np.fft.rfftfreq(size), np.fft.fftfreq(size)[:, None]
    frequency = np.maximum(np.hypot(down, across), 1 / size)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**slope
    spectrum[0, 0] = 0
    plane = np.fft.irfft2(spectrum, (size, size))
    scaled: Pixels = (0.5 + 0.22 * plane / max(float(plane.std()), 1e-9)).astype(np.float32)
    return scaled


def _leaf(rng: np.random.Generator, size: int, rows: Pixels, columns: Pixels) -> Pixels:
    """A disc, box or triangle with edges of a pixel, softer for a few: a plane [size, size] in [0, 1]."""
    radius = size * min(0.6, 0.03 * (1 - rng.random()) ** -0.7)  # power law: many small ones
    angle, y, x = rng.uniform(0, 2 * np.pi), *rng.uniform(-0.1 * size, 1.1 * size, 2)
    u = np.cos(angle) * (columns - x) + np.sin(angle) * (rows - y)
    v = np.cos(angle) * (rows - y) - np.sin(angle) * (columns - x)
    match rng.integers(3):
        case 0:
            distance = np.hypot(u, v * rng.uniform(0.6, 2.5))
        case 1:
            distance = np.maximum(abs(u), abs(v) * rng.uniform(0.4, 4))
        case _:
            distance = np.maximum(-v, 0.5 * v + 0.87 * abs(u))
    softness = 1 if rng.random() < 0.8 else rng.uniform(1, 6)
    mask: Pixels = np.clip((radius - distance) / softness + 0.5, 0, 1).astype(np.float32)
    return mask
