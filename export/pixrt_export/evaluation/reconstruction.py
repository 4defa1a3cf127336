"""How much of a picture a bundle's autoencoder keeps: the most that any of its edits can. Must not import PyTorch."""

from collections.abc import Sequence

import numpy as np

from pixrt.backends.registry import open_backend
from pixrt.bundles.store import open_bundle
from pixrt.core.networks import Networks
from pixrt.core.timing import Stopwatch
from pixrt.errors import OptionError
from pixrt.options.session import SessionOptions
from pixrt_export.evaluation.report import Picture


def reconstruct(bundle: str, options: SessionOptions, pictures: Sequence[Picture]) -> list[Picture]:
    """Pictures [H, W, 3], encoded and decoded by a bundle, cut at the right and the bottom to what it takes.

    Raises BundleError, BackendError, and OptionError for pictures that are smaller than that.
    """
    opened = open_bundle(bundle)
    step = opened.manifest.size_multiple
    if any(min(picture.shape[:2]) < step for picture in pictures):
        raise OptionError(f"the bundle takes no pictures below {step} pixels", remedy=f"Give --size {step} or more")
    backend = open_backend(options.backend, opened, options).backend
    networks, clock, made = Networks(opened, backend), Stopwatch(), []
    try:
        for picture in pictures:
            height, width = (side // step * step for side in picture.shape[:2])
            cut = picture[:height, :width]
            pixels = np.ascontiguousarray(cut.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - 1)
            latents = networks.family.to_loop(networks.encoders.source(pixels, clock))
            decoded, _ = networks.encoders.decode(latents, clock)
            made.append(np.rint(np.clip(decoded.transpose(1, 2, 0) + 1, 0, 2) * 127.5).astype(np.uint8))
    finally:
        networks.close()
        backend.close()
    return made
