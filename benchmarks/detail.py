"""How much of a photograph's detail `--detail` keeps: computed edits of a small picture, carried to the large one.

    python benchmarks/detail.py [PICTURE...]

Every edit of `pixrt_export.photo` is computed on the picture scaled down to a quarter, as a network that makes no
mistake would, and once more softened and noisy (Gaussian of 0.6 pixels, 4 levels), as a small network does.
Printed: PSNR to the same edit computed at full size, in dB, of the small result scaled up (Lanczos) and of the carried
one; then what a picture of 12 megapixels takes in time and memory.
"""

import resource
import sys
import time

import numpy as np
from PIL import Image, ImageFilter
from skimage import data

from pixrt.pictures.detail import carry
from pixrt_export.evaluation.accuracy import psnr_db
from pixrt_export.photo.edits import NAMES, Edit

SCALE = 4


def main(paths: list[str]) -> None:
    """Print a row for each kind of edit, the means, and what 12 megapixels take."""
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths] or [data.astronaut(), data.chelsea()]
    kinds = [name for name in NAMES if not name.startswith("turn")] + ["turn red blue", "turn green yellow"]
    rows = []
    print(f"{'edit':<18}{'Lanczos':>9}{'detail':>9}   softened:{'Lanczos':>9}{'detail':>9}")
    for name in kinds:
        rows.append(np.mean([row(picture, name) for picture in pictures], 0))
        print(f"{name:<18}{rows[-1][0]:9.1f}{rows[-1][1]:9.1f}            {rows[-1][2]:9.1f}{rows[-1][3]:9.1f}")
    mean = np.mean(rows, 0)
    print(f"{'mean':<18}{mean[0]:9.1f}{mean[1]:9.1f}            {mean[2]:9.1f}{mean[3]:9.1f}")
    large = np.asarray(Image.fromarray(pictures[0]).resize((4000, 3000)))
    small = np.asarray(Image.fromarray(large).resize((512, 384), Image.Resampling.LANCZOS))
    edited = planes(Edit("sepia").apply(small))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    carry(large, planes(small), edited)
    took = time.perf_counter() - started
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"4000 x 3000 from 512 x 384: {took:.2f} s, {more:.0f} MiB more at the most")


def row(picture: np.ndarray, name: str) -> list[float]:
    """PSNRs: scaled up and carried, of the computed small edit and of the softened one."""
    height, width = (side // SCALE * SCALE for side in picture.shape[:2])
    picture = picture[:height, :width]
    small = np.asarray(Image.fromarray(picture).resize((width // SCALE, height // SCALE), Image.Resampling.LANCZOS))
    answer, edited = Edit(name).apply(picture, SCALE), Edit(name).apply(small)
    blurred = np.asarray(Image.fromarray(edited).filter(ImageFilter.GaussianBlur(0.6))).astype(float)
    noise = np.random.default_rng(0).normal(0, 4, blurred.shape)
    found = []
    for each in (edited, np.clip(blurred + noise, 0, 255).astype(np.uint8)):
        up = np.asarray(Image.fromarray(each).resize((width, height), Image.Resampling.LANCZOS))
        found += [psnr_db(up, answer), psnr_db(carry(picture, planes(small), planes(each)), answer)]
    return found


def planes(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] as the networks have it, [3, H, W] in [-1, 1]."""
    return (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
