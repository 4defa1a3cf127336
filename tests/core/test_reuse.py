"""Less work by predictions and features that are used again: what is computed at a step, by the rule and in NumPy.

The reference is a loop over one picture that keeps what each branch made in a dict, and knows nothing of rows or pools.
"""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import TOKENS, WIDTH, NumpyEngine, deep_specs, smooth_network, unet_spec
from pixrt.backends.null import NullEngine
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.core.track import Steps, Track, make_track, steps_of
from pixrt.errors import BackendError
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.noise import draw_noise
from pixrt.maths.reuse import computed_branches, shallow_branches
from pixrt.maths.solvers import build_table
from pixrt.maths.tiles import Tiling, make_tiling
from pixrt.options.choices import SCHEDULERS
from pools import (
    CONFIG,
    SHAPE,
    SIZE,
    Scales,
    anchor_of,
    conditioning_of,
    given_to,
    pool_of,
    states_of,
    steps_from,
    track_of,
)

T, I, U = Branch  # noqa: E741
WINDOWS = ((0.0, 1.0), (0.0, 0.5), (0.3, 0.8))
SCALES: tuple[Scales, ...] = ((7.5, 1.5), (7.5, 1.0), (3.0, 3.0), (0.0, 2.0), (0.0, 1.0), (1.0, 1.0))
INTERVALS = ((2, 1), (3, 1), (1, 2), (1, 3), (2, 3), (3, 2), (9, 9))
TILING = Tiling(SIZE, (6, 6), (0,), (0, 4))
Feature = NDArray[np.float32]


def deep(sample: Any, timestep: Any, context: Any) -> Feature:
    """The deep layers: at half the size, of every input."""
    made = smooth_network(sample, timestep, context)
    return np.concatenate([made, np.sin(made[:, :2])], axis=1)[:, :, ::2, ::2]


def shallow(sample: Any, timestep: Any, context: Any, feature: Any) -> Feature:
    grown = feature[:, :4].repeat(2, 2).repeat(2, 3)[:, :, : sample.shape[2], : sample.shape[3]]
    text = context.mean(axis=(1, 2))[:, None, None, None]
    return np.tanh(0.5 * sample[:, :4] + 0.8 * grown + 0.2 * text - 0.1 * feature[:, 4:].mean((1, 2, 3), keepdims=True))


def whole(sample: Any, timestep: Any, context: Any) -> tuple[Feature, Feature]:
    feature = deep(sample, timestep, context)
    return shallow(sample, timestep, context, feature), feature


def engines() -> tuple[NumpyEngine, NumpyEngine]:
    first, second = deep_specs(unet_spec(), 6)
    return NumpyEngine(whole, spec=first), NumpyEngine(shallow, spec=second)


def deep_pool(slots: int, tiling: Tiling | None = None) -> tuple[Any, NumpyEngine, NumpyEngine]:
    first, second = engines()
    return pool_of(first, slots, SIZE, tiling, second, feature_scale=2), first, second


def naive(steps: Steps, seed: int, scales: Scales, window: tuple[float, float], every: int, cached: int) -> Any:
    """States of one picture in float64; the network rows of its steps, whole and shallow.

    From the definition: what a prediction differs by from the first branch's, and a feature, serves the step that made
    it and so many less one behind it.
    """
    table, given = steps.table, given_to(seed)
    drawn = np.empty((1 + len(table), *SHAPE), np.float32)
    draw_noise(seed, drawn)
    noise = drawn.astype(np.float64)
    inputs = {T: (given["text"], given["source"]), I: (given["null"], given["source"]), U: (given["null"], 0)}
    x, stored, states, rows = table.initial_scale * noise[0], [], [], []
    predictions: dict[Branch, tuple[int, Any]] = {}
    differences: dict[Branch, Any] = {}
    features: dict[Branch, tuple[int, Any]] = {}
    for at in range(len(table)):
        is_guided = window[0] <= at / len(table) < window[1]
        s_text, s_image = scales if is_guided else (1.0, 1.0)
        weights = {T: s_text, I: s_image - s_text, U: 1 - s_image}
        running = [branch for branch in Branch if weights[branch] != 0]
        counted = [0, 0]
        for branch in running:
            made = predictions.get(branch)
            if branch != running[0] and made is not None and at - made[0] < every:
                continue
            text, source = inputs[branch]
            sample = np.concatenate([(table.input_scale[at] * x)[None], np.zeros((1, *SHAPE)) + source], axis=1)
            fed = sample, np.array([table.timesteps[at]]), text[None]
            kept = features.get(branch)
            is_shallow = cached > 1 and at % cached and kept is not None and at - kept[0] < cached
            counted[bool(is_shallow)] += 1
            if not is_shallow:
                features[branch] = kept = at, deep(*fed)
            assert kept is not None
            predictions[branch] = at, shallow(*fed, kept[1])[0].astype(np.float64)
            differences[branch] = predictions[branch][1] - predictions[running[0]][1]
        now = predictions[running[0]][1]
        output = sum(weights[branch] * (now + differences[branch]) for branch in running)
        new = table.x[at] * x + table.output[at] * output + table.noise[at] * noise[1 + at]
        for k, old in enumerate(reversed(stored[-table.depth :] if table.depth else [])):
            new = new + table.history[at, k] * old
        stored.append(table.store_x[at] * x + table.store_output[at] * output)
        x = new
        states.append(x)
        rows.append(tuple(counted))
    return states, rows


class TestRule:
    def test_every_second_step(self) -> None:
        computed = computed_branches([(T, I, U)] * 5, 2)
        assert computed == ((T, I, U), (T,), (T, I, U), (T,), (T, I, U))

    def test_after_a_pause_a_prediction_is_computed_unless_it_is_younger(self) -> None:
        running = [(T, I), (T,), (T, I), (T,), (T,), (T, I), (T, I)]
        assert computed_branches(running, 3) == ((T, I), (T,), (T,), (T,), (T,), (T, I), (T,))

    def test_no_step_is_without_a_network(self) -> None:
        assert computed_branches([(I, U)] * 3, 3) == ((I, U), (I,), (I,))
        assert computed_branches([(I,)] * 3, 3) == ((I,),) * 3

    def test_features_of_branches_that_come_and_go(self) -> None:
        computed = [(T,), (T, I), (T, I), (T, I), (T,), (T, I), (T, I)]
        assert shallow_branches(computed, 3) == ((), (T,), (T, I), (), (T,), (T, I), ())

    def test_a_feature_is_never_older(self) -> None:
        """With both intervals: the image is computed at every second step, its feature serves two more."""
        computed = computed_branches([(T, I)] * 8, 2)
        assert shallow_branches(computed, 3) == ((), (T,), (T, I), (), (T,), (T,), (I,)[:0], (T,))

    def test_one_is_everything(self) -> None:
        running = [(T, I, U), (T,)]
        assert computed_branches(running, 1) == tuple(running)
        assert shallow_branches(running, 1) == ((), ())
        exact, plain = (steps_from("pndm", **given) for given in ({"branch_interval": 1, "cache_interval": 1}, {}))
        assert (exact.branches, exact.held, exact.shallow) == (plain.branches, plain.held, plain.shallow)
        assert not exact.holds
        assert not exact.caches

    def test_counts(self) -> None:
        steps = steps_from("euler", count=6, branch_interval=2, cache_interval=3)
        # Whole: steps 0 and 3, and the image's and the null picture's at 4. Shallow: the rest.
        assert (steps.evaluations, steps.shallow_evaluations, steps.calls) == (12, 12 - 3 - 1 - 2, 7)


class TestOnePicture:
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_every_state_is_the_definitions(self, scheduler: str, window: tuple[float, float]) -> None:
        turn = SCHEDULERS.index(scheduler) + WINDOWS.index(window)
        for number, (every, cached) in enumerate(INTERVALS * 2):
            scales = SCALES[(turn + number) % len(SCALES)]
            intervals = {"branch_interval": every, "cache_interval": cached}
            steps = steps_from(scheduler, scales, 7, interval=window, **intervals)
            pool, first, second = deep_pool(1)
            (states,) = states_of(pool, [track_of(steps, 5)])
            expected, rows = naive(steps, 5, scales, window, every, cached)
            assert (first.rows, second.rows) == tuple([n for n in each if n] for each in zip(*rows, strict=True))
            for ours, theirs in zip(states, expected, strict=True):
                # The same sums, one side in float32; guidance of 7.5 multiplies the rounding of the network's outputs.
                np.testing.assert_allclose(ours, theirs, atol=5e-5 * np.abs(theirs).max())

    def test_it_is_not_the_exact_one(self) -> None:
        plain, _, _ = deep_pool(1)
        exact = states_of(plain, [track_of(steps_from("euler"), 5)])[0][-1]
        for given in ({"branch_interval": 2}, {"cache_interval": 2}):
            pool, _, _ = deep_pool(1)
            made = states_of(pool, [track_of(steps_from("euler", **given), 5)])[0][-1]
            assert np.abs(made - exact).max() > 1e-3 * np.abs(exact).max()

    def test_the_prediction_of_clean_latents_counts_what_is_held(self) -> None:
        steps = steps_from("dpmpp_2m", count=3, branch_interval=3)
        engine = NumpyEngine(smooth_network)
        pool, table = pool_of(engine, 1), steps.table
        slot = pool.join(track := track_of(steps, 3))
        pool.step()
        contexts = np.stack([track.conditioning.contexts[branch] for branch in Branch])
        held = smooth_network(engine.samples[0], np.full(3, table.timesteps[0]), contexts)
        before = pool.latents(slot)
        pool.step()
        held = held + smooth_network(engine.samples[1], np.full(1, table.timesteps[1]), contexts[:1]) - held[0]
        guided = np.einsum("b,bchw->chw", steps.guidance[1].astype(np.float64), held)
        expected = table.denoised_x[1] * before + table.denoised_output[1] * guided
        np.testing.assert_allclose(pool.denoised(slot), expected, atol=2e-5 * np.abs(expected).max())


def pictures(count: int) -> list[Track]:
    """Of every solver, number of steps, window and interval; some held to an anchor, some begin with a picture."""
    draw, made = np.random.default_rng(11), []
    for seed in range(count):
        length, begins = int(draw.integers(1, 9)), seed % 3 == 1
        steps = steps_from(
            SCHEDULERS[seed % len(SCHEDULERS)],
            SCALES[int(draw.integers(len(SCALES)))],
            length,
            interval=WINDOWS[int(draw.integers(len(WINDOWS)))],
            start=int(draw.integers(length)) if begins else 0,
            branch_interval=int(draw.integers(1, 4)),
            cache_interval=int(draw.integers(1, 4)),
        )
        anchor = anchor_of(seed) if seed % 3 else None
        initial = anchor_of(seed + 1).latents if begins else None
        made.append(track_of(steps, seed, conditioning_of(seed, anchor=anchor, initial=initial)))
    return made


class TestCompany:
    @pytest.mark.parametrize("tiling", [None, TILING])
    def test_changes_nothing_whoever_joins_rests_and_leaves(self, tiling: Tiling | None) -> None:
        """Byte for byte; a track is made several times, in whatever slot, and some are thrown out."""
        tracks, draw = pictures(24), np.random.default_rng(7)
        alone = []
        for track in tracks:
            pool, _, _ = deep_pool(1, tiling)
            slot, states = pool.join(track), []
            for _ in range(len(track)):
                pool.step()
                states.append((pool.latents(slot), pool.denoised(slot)))
            alone.append(states)
        together, first, second = deep_pool(5, tiling)
        waiting, inside, seen = list(range(len(tracks))) * 2, dict[int, tuple[int, int]](), 0
        while waiting or inside:
            while waiting and together.has_room and (not inside or draw.random() < 0.7):
                number = waiting.pop(int(draw.integers(len(waiting))))
                inside[together.join(tracks[number])] = number, 0
            stepping = {slot for slot in inside if draw.random() < 0.7} or set(inside)
            ended = together.step(stepping)
            for slot in stepping:
                number, done = inside[slot]
                for ours, theirs in zip(
                    (together.latents(slot), together.denoised(slot)), alone[number][done], strict=True
                ):
                    np.testing.assert_array_equal(ours, theirs)
                inside[slot] = number, done + 1
                seen += 1
            for slot in {*ended, *(slot for slot in inside if draw.random() < 0.05)}:
                together.leave(slot)
                del inside[slot]
        assert seen > 100
        assert max(first.rows) > 6
        assert max(second.rows) > 3

    def test_tiles_have_features_of_their_own(self) -> None:
        """As every tile by itself, joined by the same weights; the solver's first steps do not mix positions."""
        steps = steps_from("euler", (1.0, 1.0), 2, cache_interval=2)
        track = track_of(steps, 5)
        pool, _, _ = deep_pool(1, TILING)
        (states,) = states_of(pool, [track])
        table, given, parts = steps.table, given_to(5), []
        for at in range(2):
            x = track.start if at == 0 else states[0]
            sample = np.concatenate([np.float32(table.input_scale[at]) * x, given["source"]])[None]
            output = np.zeros(SHAPE, np.float32)
            for number, (window, weight) in enumerate(zip(TILING.windows(), TILING.weights(), strict=True)):
                fed = sample[..., *window], np.array([table.timesteps[at]], np.float32), given["text"][None]
                if at == 0:
                    parts.append(deep(*fed))
                output[..., *window] += shallow(*fed, parts[number])[0] * weight
            expected = table.x[at] * x + table.output[at] * output
            np.testing.assert_allclose(states[at], expected, atol=1e-5 * np.abs(expected).max())

    def test_what_is_not_finite_stays_with_its_picture(self) -> None:
        """Also what a slot kept of a prediction and of a feature."""
        steps = steps_from("pndm", count=5, branch_interval=2, cache_interval=2)
        good = track_of(steps, 1)
        broken = make_track(steps, 2, conditioning_of(2), SHAPE)
        broken.start.fill(np.nan)
        pool, _, _ = deep_pool(1)
        expected = states_of(pool, [good])[0]
        pool, _, _ = deep_pool(2)
        np.testing.assert_array_equal(states_of(pool, [broken, good])[1], expected)
        np.testing.assert_array_equal(states_of(pool, [good, broken])[0], expected)

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_step_that_fails_moves_nobody(self, which: int) -> None:
        """Whichever of the two networks fails, after or before the other has run."""
        tracks = [track_of(steps_from("unipc", count=6, branch_interval=2, cache_interval=3), seed) for seed in (1, 2)]
        pool, _, _ = deep_pool(2)
        expected = states_of(pool, tracks)
        pool, *networks = deep_pool(2)
        slots = [pool.join(track) for track in tracks]
        pool.step(slots[:1])  # from now on one is whole where the other is shallow
        failures = 0
        for at in range(5):
            before = [pool.latents(slot) for slot in slots]
            networks[which].fails = True
            try:
                pool.step()
            except BackendError:
                failures += 1
                np.testing.assert_array_equal([pool.latents(slot) for slot in slots], before)
                networks[which].fails = False
                pool.step()
            np.testing.assert_array_equal(pool.latents(slots[0]), expected[0][at + 1])
            np.testing.assert_array_equal(pool.latents(slots[1]), expected[1][at])
        assert failures >= 3


@pytest.mark.parametrize("tiled", [False, True])
def test_steps_allocate_no_array(tiled: bool) -> None:
    size = (64, 64)
    first, second = (NullEngine(spec) for spec in deep_specs(unet_spec(), 6))
    tiling = make_tiling(size, 32) if tiled else None
    pool = pool_of(first, 3, size, tiling, second, feature_scale=2)
    latents, text = np.ones((4, *size), np.float32), np.ones((TOKENS, WIDTH), np.float32)
    conditioning = Conditioning(dict.fromkeys(Branch, text), anchor=Anchor(latents, np.ones((1, *size), np.float32)))
    for seed, (every, cached) in enumerate(((2, 3), (3, 1), (1, 2))):
        table = build_table("dpmpp_2m", CONFIG, 30)
        weights = guidance_weights(len(table), 7.5, 1.5, (0.0, 1.0))
        steps = steps_of(table, weights, None, every, cached)
        pool.join(make_track(steps, seed, conditioning, (4, *size)))
    for _ in range(18):  # what is bound for other numbers of rows
        pool.step()
    tracemalloc.start()
    try:
        pool.step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(6):
            pool.step()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 32 << 10  # one latent array is 64 KiB; places are views, which the interpreter makes anew
