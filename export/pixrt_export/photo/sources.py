"""The photographs that scikit-image and matplotlib carry in their wheels. Must not import PyTorch.

Only pictures that their authors gave to the public domain, or under CC0, are learned from; `docs/photo-model.md` lists
author and licence of each. The held-out ones are never learned from: they are what the model is measured on.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import PackageMissing
from pixrt.pictures.images import load_picture

SCIKIT_IMAGE = "skimage/data"
MATPLOTLIB = "matplotlib/mpl-data/sample_data"
TRAIN = {
    "brick.png": SCIKIT_IMAGE,
    "camera.png": SCIKIT_IMAGE,
    "cell.png": SCIKIT_IMAGE,
    "clock_motion.png": SCIKIT_IMAGE,
    "coffee.png": SCIKIT_IMAGE,
    "grass.png": SCIKIT_IMAGE,
    "gravel.png": SCIKIT_IMAGE,
    "horse.png": SCIKIT_IMAGE,
    "hubble_deep_field.jpg": SCIKIT_IMAGE,
    "retina.jpg": SCIKIT_IMAGE,
    "rocket.jpg": SCIKIT_IMAGE,
    "text.png": SCIKIT_IMAGE,
}
HELD_OUT = {
    "astronaut.png": SCIKIT_IMAGE,
    "chelsea.png": SCIKIT_IMAGE,
    "coins.png": SCIKIT_IMAGE,
    "grace_hopper.jpg": MATPLOTLIB,
    "ihc.png": SCIKIT_IMAGE,
    "moon.png": SCIKIT_IMAGE,
    "motorcycle_left.png": SCIKIT_IMAGE,
    "page.png": SCIKIT_IMAGE,
}


@lru_cache(maxsize=len(TRAIN) + len(HELD_OUT))
def photograph(name: str) -> NDArray[np.uint8]:
    """One picture of TRAIN or HELD_OUT by its name, [H, W, 3]. Raises PackageMissing, PictureError."""
    package, _, folder = (TRAIN | HELD_OUT)[name].partition("/")
    found = find_spec(package)
    if found is None or found.origin is None:
        raise PackageMissing(
            f"the photographs need {package}, which cannot be imported here",
            remedy="Install what is missing: pip install 'pixrt[photo]'",
        )
    return load_picture(Path(found.origin).parent / folder / name).rgb
