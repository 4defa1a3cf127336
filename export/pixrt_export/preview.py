"""The linear map from latents to colours that makes previews cheap, fitted on the checkpoint's own VAE."""

from pathlib import Path
from typing import Any

import numpy as np

from pixrt.errors import CheckpointError
from pixrt_export.tracing import open_session

_PICTURES = 24


def fit_preview(encoder: Path, scale: int, scaling_factor: float) -> tuple[tuple[float, ...], ...]:
    """Least squares of `[latents, 1] @ map = colour`: `[C + 1]` rows of RGB in [-1, 1].

    `encoder` is the path of the exported VAE encoder, which gives unscaled latents; `scale` is pixels per latent;
    `scaling_factor` makes them what the loop sees. The pictures are synthetic: smooth and flat colours, seeded. Raises
    CheckpointError if the encoder gives values that are not finite.
    """
    session = open_session(encoder)
    dtype = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
    cells = 16
    rows, colours = [], []
    for picture in _pictures(cells * scale):
        (latents,) = session.run(None, {"sample": picture[None].astype(dtype)})
        scaled = latents[0].astype(np.float64) * scaling_factor  # [C, cells, cells]
        rows.append(scaled.reshape(len(scaled), -1).T)
        means = picture.reshape(3, cells, scale, cells, scale).mean(axis=(2, 4))
        colours.append(means.reshape(3, -1).T)
    latents_, target = np.concatenate(rows), np.concatenate(colours)
    if not np.isfinite(latents_).all():
        raise CheckpointError(
            "the VAE encoder gives values that are not finite on plain pictures", remedy="Export with --precision fp32"
        )
    design = np.concatenate([latents_, np.ones((len(latents_), 1))], axis=1)
    fitted, *_ = np.linalg.lstsq(design, target, rcond=None)
    return tuple(tuple(round(float(value), 5) for value in row) for row in fitted)


def _pictures(side: int) -> list[np.ndarray[Any, Any]]:
    """`[3, side, side]` in [-1, 1]."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    made = []
    for index in range(_PICTURES):
        waves = generator.uniform(-3, 3, (3, 3))
        picture = np.stack([np.sin(a * 2 * x + b * 2 * y + c) for a, b, c in waves])
        if index % 3 == 0:
            picture = np.broadcast_to(generator.uniform(-1, 1, (3, 1, 1)), picture.shape).copy()
        elif index % 3 == 1:
            cut = generator.integers(side // 4, 3 * side // 4)
            picture[:, cut:] = generator.uniform(-1, 1, (3, 1, 1))
        made.append(picture.astype(np.float32))
    return made
