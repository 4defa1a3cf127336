"""A change carried to the full size: against the answer computed there, and against a regression by another library."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixrt.pictures import detail
from pixrt.pictures.detail import carry

Picture = NDArray[np.uint8]
SCALE = 4


@pytest.fixture(scope="module")
def full() -> Picture:
    """A picture with detail that the small one has not: noise of 1/f amplitude in three mixed channels."""
    rng = np.random.default_rng(3)
    height, width = 256, 320
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    planes = []
    for _ in range(3):
        wave = np.fft.rfft2(rng.standard_normal((height, width))) / np.maximum(frequency, 1 / width)
        plane = np.fft.irfft2(wave, (height, width))
        planes.append(plane / plane.std())
    mixed = np.tensordot([[1, 0.3, 0.1], [0.5, 0.8, 0], [0.2, 0.2, 0.9]], planes, 1)
    return np.clip(mixed.transpose(1, 2, 0) * 25 + 128, 0, 255).astype(np.uint8)


def small_of(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    size = width // SCALE, height // SCALE
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def planes(picture: Picture) -> NDArray[np.float32]:
    return (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)


def psnr_db(one: Picture, other: Picture) -> float:
    return float(-10 * np.log10(np.mean((one.astype(float) - other) ** 2) / 255**2 + 1e-12))


def scaled_up(small: Picture, full: Picture) -> Picture:
    return np.asarray(Image.fromarray(small).resize(full.shape[1::-1], Image.Resampling.LANCZOS))


def grey(picture: Picture) -> Picture:
    return np.repeat((picture @ [0.299, 0.587, 0.114])[..., None], 3, 2).round().astype(np.uint8)


def sepia(picture: Picture) -> Picture:
    matrix = [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]
    return (picture @ np.transpose(matrix) * 0.7).round().astype(np.uint8)


def dark_corners(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    y, x = (np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5
    return (picture * (1 - 1.4 * (x**2 + y[:, None] ** 2))[..., None]).round().astype(np.uint8)


@pytest.mark.parametrize("edit", [grey, sepia, dark_corners, lambda picture: 255 - picture, lambda picture: picture])
def test_what_is_a_change_of_colours_keeps_all_detail(full: Picture, edit: Callable[[Picture], Picture]) -> None:
    """Within two levels, where the small picture scaled up is far off. Rounding alone makes half a level."""
    small = small_of(full)
    answer, made = edit(full), carry(full, planes(small), planes(edit(small)))
    assert made.dtype == np.uint8
    assert psnr_db(made, answer) > 46
    assert psnr_db(made, answer) > psnr_db(scaled_up(edit(small), full), answer) + 12


def test_a_blur_takes_no_detail(full: Picture) -> None:
    from PIL import ImageFilter

    small = small_of(full)
    blurred = np.asarray(Image.fromarray(small).filter(ImageFilter.GaussianBlur(3)))
    answer = np.asarray(Image.fromarray(full).filter(ImageFilter.GaussianBlur(3 * SCALE)))
    made = carry(full, planes(small), planes(blurred))
    assert psnr_db(made, answer) > psnr_db(scaled_up(blurred, full), answer) - 0.5
    assert psnr_db(made, full) < psnr_db(made, answer) - 10


def test_what_is_new_takes_none_of_the_old(full: Picture) -> None:
    """A plain disc painted over: within it, away from its edge, the result is plain."""
    small = small_of(full)
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    disc = (y - 32) ** 2 + (x - 40) ** 2 < 24**2
    painted = np.where(disc[..., None], np.uint8([200, 60, 30]), small)
    made = carry(full, planes(small), planes(painted))
    inside = made[4 * 32 - 30 : 4 * 32 + 30, 4 * 40 - 30 : 4 * 40 + 30]
    assert inside.reshape(-1, 3).std(0).max() < 0.1 * full.reshape(-1, 3).std(0).min()
    away = carry(full, planes(small), planes(small))[:, :20]
    # Only what is drawn to the regression over the whole picture differs.
    assert np.abs(made[:, :20].astype(int) - away).max() <= 3


@pytest.mark.parametrize("band", [1, 7, 256])
def test_bands_leave_no_seam(full: Picture, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_of(full)
    whole = carry(full, planes(small), planes(sepia(small)))
    monkeypatch.setattr(detail, "_BAND", band)
    difference = np.abs(carry(full, planes(small), planes(sepia(small))).astype(int) - whole)
    assert difference.max() <= 1  # the box of a band is in other floats


def test_any_ratio(full: Picture) -> None:
    for size in ((53, 41), (320, 200), (17, 90)):
        small = np.asarray(Image.fromarray(full).resize(size, Image.Resampling.LANCZOS))
        made = carry(full, planes(small), planes(255 - small))
        assert psnr_db(made, 255 - full) > 45


def test_the_gains_are_the_windows_least_squares(full: Picture) -> None:
    """In some places, against NumPy's solver on the samples of the window themselves, as ridge regression."""
    small, edited = small_of(full), small_of(dark_corners(full))
    gains = detail._gains(planes(small), planes(edited))

    def fine(values: NDArray[np.float32]) -> NDArray[np.float64]:
        unit = values.astype(np.float64) / 2
        padded = np.pad(unit, ((0, 0), (2, 2), (2, 2)), constant_values=np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (1, 2))
        return unit - np.nanmean(windows, axis=(3, 4))

    source, edit = fine(planes(small)), fine(planes(edited))
    flat = source.reshape(3, -1).T
    prior = np.linalg.lstsq(
        np.vstack([flat, np.eye(3) * np.sqrt(1e-6 * len(flat))]),
        np.vstack([edit.reshape(3, -1).T, np.zeros((3, 3))]),
        rcond=None,
    )[0]
    for y, x in ((0, 0), (20, 30), (63, 79), (40, 3)):
        window = np.s_[:, max(0, y - 8) : y + 9, max(0, x - 8) : x + 9]
        samples, answers = source[window].reshape(3, -1).T, edit[window].reshape(3, -1).T
        ridge = np.eye(3) * np.sqrt(1e-4 * len(samples))
        expected = np.linalg.lstsq(np.vstack([samples, ridge]), np.vstack([answers, ridge @ prior]), rcond=None)[0].T
        np.testing.assert_allclose(gains[:, :, y, x], expected, atol=2e-3)
