"""The statistics of one picture's latents on the content of another's. Pure maths, imports only numpy.

Latents are `[C, h, w]` float32; content and style may differ in h and w.
"""

import numpy as np
from numpy.typing import NDArray

Latents = NDArray[np.float32]

# Latents deviate by 0.1 and more; below this a channel is flat, and what it has is rounding, not content.
_FLAT = 1e-3
_TINY = float(np.finfo(np.float32).tiny)
_CHUNK_BYTES = 16 * 2**20


def match_statistics(content: Latents, style: Latents) -> Latents:
    """The content `[C, h, w]` with the style's mean and deviation, channel by channel.

    Adaptive instance normalisation (Huang & Belongie 2017, arXiv:1703.06868), equation 8. A channel of the content that
    is flat stays flat, at the style's mean.
    """
    mean, deviation = _statistics(style)
    matched: Latents = (_standard(content) * deviation + mean).astype(np.float32)
    return matched


def match_patches(content: Latents, style: Latents, patch: int = 3) -> Latents:
    """The content `[C, h, w]` with every patch x patch patch replaced by the style's that is most like it.

    Style swap (Chen & Schmidt 2016, arXiv:1612.04337): most like is the greatest normalised cross-correlation, and
    patches that overlap are averaged. Each pixel has its patch; both pictures are mirrored at the border, so a picture
    matched with itself stays as it is, and a style may be smaller than a patch. Multiples of a patch are as like as the
    patch itself. `patch` is 1 or more; up to 9 takes less than 128 MiB for latents of 128 x 128.
    """
    channels, height, width = content.shape
    before, after = (patch - 1) // 2, patch // 2
    found = _best_patches(_patches(content, patch), _patches(style, patch)).reshape(height, width)
    y, x = np.divmod(found, style.shape[2])
    source = _mirrored(style, before, after)
    total = np.zeros((channels, height + patch - 1, width + patch - 1))
    count = np.zeros(total.shape[1:])
    for dy in range(patch):
        for dx in range(patch):
            window = np.s_[..., dy : dy + height, dx : dx + width]
            total[window] += source[:, y + dy, x + dx]
            count[window] += 1
    window = np.s_[..., before : before + height, before : before + width]
    averaged: Latents = (total[window] / count[window]).astype(np.float32)
    return averaged


def stylize(content: Latents, style: Latents, patch: int) -> Latents:
    """The content `[C, h, w]` in the style: statistics, then patches, then statistics again; no patches with `patch` 0.

    Patches are matched with every channel of both at mean 0 and deviation 1: around another mean the mean would decide
    which patches are alike, and a channel that hardly deviates would have no say. Averaging where they overlap takes a
    fifth and more of the deviation away, so the style's statistics are given once more.

    Measured on pairs of pictures, patches of 3: the Gram distance to the style falls to between 0.14 and 0.42 of the
    content's in the median (0.24 to 0.64 without patches), and falls for seven pairs of eight; the correlation with the
    content is about 0.78. Greater patches bring more of the style and keep less of the content.
    """
    if patch == 0:
        return match_statistics(content, style)
    ours, theirs = (_standard(latents).astype(np.float32) for latents in (content, style))
    return match_statistics(match_patches(ours, theirs, patch), style)


def gram_distance(a: Latents, b: Latents) -> float:
    """How far the Gram matrix of `a` is from that of `b`, relative to that of `b` (Frobenius): 0 if they are equal.

    Features are the 3 x 3 neighbourhoods `[9 C, h w]`, not centred, mirrored at the border; their Gram matrix is the
    mean of their outer products over the positions (Gatys et al. 2016, equation 3, on latents).
    """
    ours, theirs = (_gram(_patches(latents, 3).astype(np.float64)) for latents in (a, b))
    return float(np.linalg.norm(ours - theirs)) / max(float(np.linalg.norm(theirs)), _TINY)


def _statistics(latents: Latents) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation `[C, 1, 1]` of each channel."""
    exact = latents.astype(np.float64)
    return exact.mean(axis=(1, 2), keepdims=True), exact.std(axis=(1, 2), keepdims=True)


def _standard(latents: Latents) -> NDArray[np.float64]:
    """Every channel at mean 0 and deviation 1, or nearer to 0 if it is flat."""
    mean, deviation = _statistics(latents)
    standard: NDArray[np.float64] = (latents - mean) / np.maximum(deviation, _FLAT)
    return standard


def _gram(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return features.T @ features / len(features)


def _mirrored(latents: Latents, before: int, after: int) -> Latents:
    return np.pad(latents, ((0, 0), (before, after), (before, after)), mode="reflect")


def _patches(latents: Latents, patch: int) -> Latents:
    """`[h w, C patch patch]`: the patch around every pixel."""
    whole = _mirrored(latents, (patch - 1) // 2, patch // 2)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (patch, patch), axis=(1, 2))  # [C, h, w, patch, patch]
    return windows.transpose(1, 2, 0, 3, 4).reshape(latents.shape[1] * latents.shape[2], -1)


def _best_patches(content: Latents, style: Latents) -> NDArray[np.intp]:
    """`[n]`: for each of n patches the index of the one of m with the greatest normalised cross-correlation.

    The norm of the content's patch is the same for all m, and left out.
    """
    norms = np.linalg.norm(style, axis=1, keepdims=True)
    unit = (style / np.maximum(norms, _TINY)).T
    best = np.empty(len(content), np.intp)
    # All n x m correlations of 128 x 128 latents would take 1 GiB.
    rows = max(1, _CHUNK_BYTES // (unit.shape[1] * unit.itemsize))
    for start in range(0, len(content), rows):
        best[start : start + rows] = np.argmax(content[start : start + rows] @ unit, axis=1)
    return best
