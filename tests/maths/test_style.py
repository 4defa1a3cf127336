"""Style on latents: statistics are the style's, patches are the style's, and the content keeps its arrangement."""

import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixrt.maths.style import Latents, gram_distance, match_patches, match_statistics, stylize

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(2, 12), st.integers(2, 12))
PATCHES = (1, 2, 3, 4, 5)


def noise(seed: int, *shape: int) -> Latents:
    """Channels of different means and deviations, as latents have."""
    generator = np.random.default_rng(seed)
    scale, shift = generator.uniform(0.3, 3, shape[0]), generator.normal(0, 2, shape[0])
    drawn = generator.standard_normal(shape) * scale[:, None, None] + shift[:, None, None]
    return drawn.astype(np.float32)


def texture(seed: int, reach: int, side: int = 48) -> Latents:
    """Noise smoothed over `reach` pixels, with channels that go together: as neighbours and channels of latents do."""
    generator = np.random.default_rng(seed)
    white = np.fft.rfft2(generator.standard_normal((4, side, side)))
    y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    smooth = np.fft.irfft2(white * np.exp(-((x**2 + y**2) * (np.pi * reach) ** 2)), (side, side))
    mixed = np.einsum("ij,jhw->ihw", generator.standard_normal((4, 4)), smooth / smooth.std())
    return (mixed + generator.normal(0, 1, (4, 1, 1))).astype(np.float32)


@given(shapes, shapes, seeds)
def test_statistics_become_the_styles(of: tuple[int, int, int], size: tuple[int, int, int], seed: int) -> None:
    content, style = noise(seed, *of), noise(seed + 1, of[0], *size[1:])
    matched = match_statistics(content, style)
    assert (matched.shape, matched.dtype) == (content.shape, np.float32)
    np.testing.assert_allclose(matched.mean((1, 2), np.float64), style.mean((1, 2), np.float64), atol=1e-5)
    np.testing.assert_allclose(matched.std((1, 2), np.float64), style.std((1, 2), np.float64), rtol=1e-4)
    # Nothing but a shift and a scale of each channel: the arrangement is the content's.
    for ours, theirs in zip(matched, content, strict=True):
        slope, shift = np.polyfit(theirs.ravel().astype(np.float64), ours.ravel(), 1)
        assert slope > 0
        np.testing.assert_allclose(ours, slope * theirs + shift, atol=1e-3)


def test_statistics_by_hand() -> None:
    content = np.array([[[0, 2], [0, 2]]], np.float32)  # mean 1, deviation 1
    style = np.array([[[10, 16, 10, 16]]], np.float32)  # mean 13, deviation 3
    np.testing.assert_array_equal(match_statistics(content, style), [[[10, 16], [10, 16]]])


@pytest.mark.parametrize("patch", [0, 3])
def test_a_flat_channel_does_not_explode(patch: int) -> None:
    content, style = noise(0, 3, 16, 16), noise(1, 3, 16, 16)
    content[1] = 0.7
    content[2] = np.float32(0.7) + np.float32(1e-6) * content[2]  # flat but for rounding
    flat = match_statistics(content, style)
    np.testing.assert_allclose(flat[1:], np.ones_like(flat[1:]) * style[1:].mean((1, 2), keepdims=True), atol=0.05)
    style[0] = -2
    styled = stylize(content, style, patch)
    np.testing.assert_allclose(styled[0], -2, atol=1e-5)
    assert np.isfinite(styled).all()
    assert np.abs(styled).max() <= 2 * np.abs(style).max()
    assert np.isfinite(stylize(content * 0, style * 0, patch)).all()


@given(st.integers(2, 12), st.integers(2, 12), st.sampled_from(PATCHES), seeds)
def test_a_picture_in_its_own_style_is_itself(height: int, width: int, patch: int, seed: int) -> None:
    # With fewer channels single pixels can be nearly multiples of each other, and so nearly alike.
    content = noise(seed, 4, height, width)
    np.testing.assert_allclose(match_statistics(content, content), content, atol=1e-5)
    np.testing.assert_allclose(match_patches(content, content, patch), content, atol=1e-6)
    np.testing.assert_allclose(stylize(content, content, patch), content, atol=1e-4)


@pytest.mark.parametrize("patch", PATCHES)
def test_a_part_of_the_style_is_found_in_it(patch: int) -> None:
    style = noise(0, 4, 20, 24)
    content = 2.5 * style[:, 5:15, 7:19]  # the correlation is normalised: how strong a patch is does not matter
    inner = np.s_[:, patch:-patch, patch:-patch]
    np.testing.assert_allclose(match_patches(content, style, patch)[inner], style[:, 5:15, 7:19][inner], atol=1e-6)


def test_a_pixel_comes_from_the_style() -> None:
    content, style = noise(0, 4, 9, 7), noise(1, 4, 6, 8)
    pixels = {tuple(pixel) for pixel in style.reshape(4, -1).T.tolist()}
    assert {tuple(pixel) for pixel in match_patches(content, style, 1).reshape(4, -1).T.tolist()} <= pixels
    with np.errstate(all="raise"):
        single = match_patches(content, style[:, :1, :1], 5)
    np.testing.assert_allclose(single, np.ones_like(content) * style[:, :1, :1], rtol=1e-6)


def test_patches_by_hand() -> None:
    """Patches of 3 in one row; the two style patches that count are around the 5 and the -5."""
    style = np.array([[[0, 0, 5, 0, 0, 0, -5, 0, 0]]], np.float32)
    content = np.array([[[0, 0, 0, 1, 0, 0, 0]]], np.float32)
    # Around pixels 2, 3 and 4 the patches are (0 0 1), (0 1 0), (1 0 0), so (0 0 5), (0 5 0), (5 0 0) of the style's.
    np.testing.assert_array_equal(match_patches(content, style, 3)[0, 0, 2:5], [0, 5, 0])
    np.testing.assert_array_equal(match_patches(-content, style, 3)[0, 0, 2:5], [0, -5, 0])


@pytest.mark.torch
@pytest.mark.parametrize("patch", PATCHES)
def test_patches_are_those_of_convolutions(patch: int) -> None:
    """As the paper writes it: a convolution with the style's patches, the best one kept, a transposed convolution."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    content, style = noise(3, 4, 11, 14), noise(4, 4, 13, 9)
    around = ((patch - 1) // 2, patch // 2)
    ours, theirs = (
        functional.pad(torch.from_numpy(latents[None]).double(), (*around, *around), mode="reflect")
        for latents in (content, style)
    )
    patches = functional.unfold(theirs, patch)[0].T.reshape(-1, 4, patch, patch)
    norms = patches.flatten(1).norm(dim=1)
    score = functional.conv2d(ours, patches / norms[:, None, None, None])
    chosen = functional.one_hot(score.argmax(1), len(patches)).permute(0, 3, 1, 2).double()
    total = functional.conv_transpose2d(chosen, patches)
    count = functional.conv_transpose2d(chosen, torch.ones_like(patches))
    window = np.s_[:, around[0] : around[0] + 11, around[0] : around[0] + 14]
    np.testing.assert_allclose(match_patches(content, style, patch), (total / count)[0].numpy()[window], atol=1e-6)


def test_patches_of_large_latents_take_little_memory() -> None:
    content, style = noise(0, 4, 128, 128), noise(1, 4, 128, 128)
    tracemalloc.start()
    try:
        match_patches(content, style, 3)  # all the correlations at once would be 1024 MiB
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < 64


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    content, style = noise(0, 4, 15, 17), noise(1, 4, 12, 11)
    whole = match_patches(content, style)
    for bytes_ in (1, 5000, 12 * 11 * 4 * 100):
        monkeypatch.setattr("pixrt.maths.style._CHUNK_BYTES", bytes_)
        np.testing.assert_array_equal(match_patches(content, style), whole)


@settings(max_examples=30)
@given(st.sampled_from((0, *PATCHES)), seeds)
def test_what_is_stylized_has_the_styles_statistics(patch: int, seed: int) -> None:
    content, style = noise(seed, 4, 12, 10), noise(seed + 1, 4, 9, 14)
    before = content.copy(), style.copy()
    styled = stylize(content, style, patch)
    assert (styled.shape, styled.dtype) == (content.shape, np.float32)
    np.testing.assert_allclose(styled.mean((1, 2), np.float64), style.mean((1, 2), np.float64), atol=1e-5)
    np.testing.assert_allclose(styled.std((1, 2), np.float64), style.std((1, 2), np.float64), rtol=1e-4)
    for now, then in zip((content, style), before, strict=True):
        np.testing.assert_array_equal(now, then)
    if not patch:
        np.testing.assert_array_equal(styled, match_statistics(content, style))


def test_what_is_stylized_is_nearer_to_the_style_and_still_the_content() -> None:
    ratios, kept = [], []
    for (i, reach), (j, other) in permutations(enumerate((1, 2, 4, 6)), 2):
        content, style = texture(i, reach), texture(10 + j, other)
        before = gram_distance(content, style)
        styled = [stylize(content, style, patch) for patch in (0, 3)]
        ratios.append([gram_distance(each, style) / before for each in styled])
        kept.append(
            [np.corrcoef(ours.ravel(), its.ravel())[0, 1] for ours, its in zip(styled[1], content, strict=True)]
        )
    statistics, patches = np.median(ratios, axis=0)
    assert patches < statistics < 1
    assert np.mean(kept) > 0.5


@given(shapes, seeds)
def test_gram_distances(shape: tuple[int, int, int], seed: int) -> None:
    a, b = noise(seed, *shape), noise(seed + 1, shape[0], 7, 5)
    assert gram_distance(a, a) == 0
    assert gram_distance(a, b) > 0
    # Relative: twice the features are four times the matrix.
    assert gram_distance(2 * b, b) == pytest.approx(3, rel=1e-6)
    assert gram_distance(0 * b, b) == pytest.approx(1, rel=1e-6)


def test_a_gram_distance_by_hand() -> None:
    """One flat channel: all nine features are its value v, and all 81 entries of the matrix v * v."""
    for v, w in ((1, 2), (3, 2), (-2, 2)):
        distance = gram_distance(np.full((1, 4, 6), v, np.float32), np.full((1, 5, 5), w, np.float32))
        assert distance == pytest.approx(abs(v * v - w * w) / (w * w))
    # What is next to what counts: stripes across have the pixels of stripes along, but not their neighbourhoods.
    stripes = np.tile(np.array([[-1, 1]], np.float32), (1, 8, 4))
    assert gram_distance(stripes, stripes.transpose(0, 2, 1)) > 0.5
    assert gram_distance(stripes * 0, stripes * 0) == 0


@pytest.mark.torch
def test_gram_distances_are_those_of_unfold() -> None:
    torch = pytest.importorskip("torch")
    grams = []
    for latents in (noise(0, 4, 9, 12), noise(1, 4, 16, 7)):
        padded = torch.nn.functional.pad(torch.from_numpy(latents[None]).double(), (1, 1, 1, 1), mode="reflect")
        features = torch.nn.functional.unfold(padded, 3)[0]  # [9 C, h w]
        grams.append(features @ features.T / features.shape[1])
    expected = float((grams[0] - grams[1]).norm() / grams[1].norm())
    assert gram_distance(noise(0, 4, 9, 12), noise(1, 4, 16, 7)) == pytest.approx(expected, rel=1e-6)
