"""Pictures in a pool do what their tracks say, run only the branches they need, and are what they are alone."""

import sys
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import TOKENS, WIDTH, NumpyEngine, smooth_network, unet_spec
from pixrt.backends.null import NullEngine
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.core.track import Track, make_track
from pixrt.errors import BackendError
from pixrt.maths.guidance import Branch
from pixrt.maths.noise import draw_noise
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

# NumPy 1 takes a buffer of its own for a sum whose types differ, whatever its size.
UFUNC_BYTES = 0 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 4 * np.getbufsize()


def run(
    scheduler: str, seeds: list[int], scales: Scales, steps: int = 6, dtype: Any = "float32"
) -> tuple[list[list[NDArray[np.float32]]], NumpyEngine]:
    engine = NumpyEngine(smooth_network, dtype)
    tracks = [track_of(steps_from(scheduler, scales, steps), seed) for seed in seeds]
    return states_of(pool_of(engine, len(seeds)), tracks), engine


def naive(scheduler: str, seed: int, scales: Scales, steps: int = 6) -> list[NDArray[np.float64]]:
    """The table's docstring and the published guidance, in float64, one picture, all three branches always."""
    table = build_table(scheduler, CONFIG, steps)
    drawn = np.empty((1 + len(table), *SHAPE), np.float32)
    draw_noise(seed, drawn)
    noise, given = drawn.astype(np.float64), given_to(seed)
    x, stored, states = table.initial_scale * noise[0], [], []
    for i in range(len(table)):
        eps = []
        for text, source in ((given["text"], given["source"]), (given["null"], given["source"]), (given["null"], 0)):
            sample = np.concatenate([(table.input_scale[i] * x)[None], np.zeros((1, *SHAPE)) + source], axis=1)
            eps.append(smooth_network(sample, np.array([table.timesteps[i]]), text[None])[0].astype(np.float64))
        output = eps[2] + scales[0] * (eps[0] - eps[1]) + scales[1] * (eps[1] - eps[2])
        new = table.x[i] * x + table.output[i] * output + table.noise[i] * noise[1 + i]
        for k, old in enumerate(reversed(stored[-table.depth :] if table.depth else [])):
            new = new + table.history[i, k] * old
        stored.append(table.store_x[i] * x + table.store_output[i] * output)
        x = new
        states.append(x)
    return states


class TestOnePicture:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    @pytest.mark.parametrize("scales", [(7.5, 1.5), (1.0, 1.0), (3.0, 3.0), (2.0, 0.5)])
    def test_every_state_is_the_tables(self, scheduler: str, scales: Scales) -> None:
        (states,), _ = run(scheduler, [5], scales)
        expected = naive(scheduler, 5, scales)
        assert len(states) == len(expected)
        for ours, theirs in zip(states, expected, strict=True):
            # Both sides do the same sums, one in float32: a few units in the last place of the largest term.
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())

    @pytest.mark.parametrize(("scales", "rows"), [((7.5, 1.5), 3), ((7.5, 1.0), 2), ((3.0, 3.0), 2), ((1.0, 1.0), 1)])
    def test_only_branches_with_a_weight_run(self, scales: Scales, rows: int) -> None:
        _, engine = run("euler", [1, 2], scales)
        assert engine.rows == [2 * rows] * 6

    def test_both_scales_one_is_the_text_branch(self) -> None:
        (plain,), engine = run("ddim", [4], (1.0, 1.0))
        (with_all,), full = run("ddim", [4], (1.0 + 1e-6, 1.0 + 1e-6))
        assert engine.rows == [1] * 6
        assert full.rows == [2] * 6
        np.testing.assert_allclose(with_all[-1], plain[-1], atol=1e-4)

    def test_the_source_half_stays_and_is_zero_for_the_null_picture(self) -> None:
        _, engine = run("euler", [1, 2], (7.5, 1.5))
        first = engine.samples[0][:, 4:]
        for sample in engine.samples:
            np.testing.assert_array_equal(sample[:, 4:], first)
        for picture in (first[:3], first[3:]):
            np.testing.assert_array_equal(picture[0], picture[1])
            assert np.abs(picture[0]).min() > 0
            assert not picture[2].any()
        assert not np.array_equal(first[0], first[3])

    def test_fp16_networks_are_fed_fp16(self) -> None:
        (states,), engine = run("euler_ancestral", [1], (7.5, 1.5), dtype="float16")
        assert engine.samples[0].dtype == np.float16
        expected = naive("euler_ancestral", 1, (7.5, 1.5))
        # Half precision has 11 bits; guidance multiplies the rounding of each branch by up to 7.5.
        np.testing.assert_allclose(states[-1], expected[-1], atol=2e-2 * np.abs(expected[-1]).max())

    def test_the_prediction_of_clean_latents(self) -> None:
        engine, steps = NumpyEngine(smooth_network), steps_from("dpmpp_2m")
        pool, table = pool_of(engine, 1), steps.table
        slot = pool.join(track := track_of(steps, 3))
        assert not pool.denoised(slot).any()
        for at in range(2):
            before = pool.latents(slot)
            pool.step()
            outputs = smooth_network(engine.samples[-1], np.full(3, table.timesteps[at]), _contexts(track))
            guided = np.einsum("b,bchw->chw", steps.guidance[at].astype(np.float64), outputs)
            expected = table.denoised_x[at] * before + table.denoised_output[at] * guided
            np.testing.assert_allclose(pool.denoised(slot), expected, atol=2e-5 * np.abs(expected).max())

    @pytest.mark.parametrize("steer", [None, 0.5])
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_planning_is_linear_in_steps(self, scheduler: str, steer: float | None) -> None:
        """Counted in calls of functions, which do not depend on the machine."""

        def calls(count: int) -> int:
            counted = 0

            def count_call(frame: Any, event: str, argument: Any) -> None:
                nonlocal counted
                counted += event in ("call", "c_call")

            sys.setprofile(count_call)
            try:
                steps_from(scheduler, count=count, steer=steer)
            finally:
                sys.setprofile(None)
            return counted

        counts = (5, 45) if scheduler == "lcm" else (50, 450)
        few, many = map(calls, counts)
        assert many <= 9.5 * few


def _contexts(track: Track) -> NDArray[Any]:
    return np.stack([track.conditioning.contexts[branch] for branch in Branch])


class TestAnchors:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    @pytest.mark.parametrize("start", [0, 3])
    def test_what_is_held_is_the_known_latents_noised_to_the_level(self, scheduler: str, start: int) -> None:
        known = np.random.default_rng(3).standard_normal(SHAPE, np.float32)
        where = np.zeros((1, *SIZE), np.float32)
        where[:, 2:] = 1
        steps = steps_from(scheduler, start=start)
        first = np.empty((1, *SHAPE), np.float32)
        draw_noise(4, first)
        conditioning = conditioning_of(4, anchor=Anchor(known, where), initial=known if start else None)
        (states,) = states_of(pool_of(NumpyEngine(smooth_network), 1), [track_of(steps, 4, conditioning)])
        for step, state in enumerate(states):
            alpha, sigma = steps.table.level_after(step)
            expected = np.float32(alpha) * known + np.float32(sigma) * first[0]
            np.testing.assert_allclose(state[:, 2:], expected[:, 2:], atol=1e-6 * np.abs(expected).max())
            assert not np.allclose(state[:, :2], expected[:, :2], atol=1e-3)
        np.testing.assert_array_equal(states[-1][:, 2:], known[:, 2:])  # the last level is clean

    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_steering_moves_the_clean_latents_part_of_the_way(self, scheduler: str, weight: float) -> None:
        known = np.full(SHAPE, 2, np.float32)

        def first(steer: float) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
            conditioning = conditioning_of(4, anchor=Anchor(known, np.ones((1, *SIZE), np.float32)))
            steps, pool = steps_from(scheduler, count=4, steer=steer), pool_of(NumpyEngine(smooth_network), 1)
            slot = pool.join(track_of(steps, 4, conditioning))
            pool.step()
            return pool.latents(slot), pool.denoised(slot), steps.table.level_after(0)[0]

        free, predicted, alpha = first(0.0)
        expected = free + weight * alpha * (known - predicted)
        np.testing.assert_allclose(first(weight)[0], expected, atol=1e-5 * np.abs(expected).max())

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_steering_keeps_the_level_of_noise(self, scheduler: str) -> None:
        """With the right noise predicted the state stays the steered clean latents and noise of the level's size."""
        size = (24, 24)
        steps = steps_from(scheduler, (1.0, 1.0), 12, start=4, steer=0.7)
        table = steps.table
        target = np.zeros((4, *size), np.float32)  # of clean latents that are 0 anyway: what is left is noise
        spread = table.input_scale[0] * table.sigma[0]

        def exact(sample: Any, timestep: Any, context: Any) -> Any:
            return sample[:, :4] / np.float32(spread)  # eps, if the state is sigma eps

        conditioning = conditioning_of(
            1, size=size, initial=target, anchor=Anchor(target, np.ones((1, *size), np.float32))
        )
        pool = pool_of(NumpyEngine(exact), 1, size)
        slot, seen = pool.join(track_of(steps, 1, conditioning)), []
        for step in range(len(table)):
            pool.step()
            sigma = table.level_after(step)[1]
            seen.append((float(pool.latents(slot).std()), sigma))
            if step + 1 < len(table):
                spread = table.input_scale[step + 1] * sigma
        for made, wanted in seen[:-1]:
            assert abs(made - wanted) <= 0.06 * wanted, seen  # 2304 values: a deviation is known to 1.5 %

    def test_an_earlier_pictures_anchor_is_gone(self) -> None:
        pool, steps = pool_of(NumpyEngine(smooth_network), 1), steps_from("ddim", count=4)
        anchor = Anchor(np.ones(SHAPE, np.float32), np.ones((1, *SIZE), np.float32))
        states_of(pool, [track_of(steps, 4, conditioning_of(4, anchor=anchor))])
        (states,), _ = run("ddim", [4], (7.5, 1.5), 4)
        np.testing.assert_array_equal(states_of(pool, [track_of(steps, 4)])[0][-1], states[-1])


@st.composite
def pictures(draw: st.DrawFn) -> Track:
    """A picture of any solver, number of steps, scales, window, strength; free, held or steered."""
    kind = draw(st.sampled_from(["free", "held", "steered"]))
    begins = draw(st.booleans())
    count = draw(st.integers(1, 9))
    interval = draw(st.sampled_from([(0.0, 1.0), (0.0, 0.5), (0.3, 0.7), (1.0, 1.0)]))
    scales = draw(st.sampled_from([(7.5, 1.5), (3.0, 1.0), (1.0, 1.0), (0.0, 2.0), (2.0, 2.0)]))
    seed = draw(st.integers(0, 2**63 - 1))
    steps = steps_from(
        draw(st.sampled_from(SCHEDULERS)),
        scales,
        count,
        interval=interval,
        start=draw(st.integers(0, count - 1)) if begins else 0,
        steer=0.4 if kind == "steered" else None,
    )
    anchor = None if kind == "free" else anchor_of(seed % 100)
    initial = anchor_of(seed % 101).latents if begins else None
    return track_of(steps, seed, conditioning_of(seed % 97, anchor=anchor, initial=initial))


class TestCompany:
    @given(st.data())
    @settings(max_examples=60)
    def test_changes_nothing_whoever_joins_and_leaves(self, data: st.DataObject) -> None:
        """Every state is byte for byte what it is alone, under random joining, leaving and resting; up to 24 rows."""
        tracks = data.draw(st.lists(pictures(), min_size=1, max_size=14))
        tiled = data.draw(st.booleans())

        def pool(slots: int) -> Any:
            tiling = Tiling(SIZE, (6, 6), (0,), (0, 4)) if tiled else None
            return pool_of(NumpyEngine(smooth_network), slots, SIZE, tiling)

        together, inside, waiting = pool(8), dict[int, tuple[Track, list[Any]]](), list(tracks)
        finished: list[tuple[Track, list[Any]]] = []
        while waiting or inside:
            while waiting and together.has_room and (not inside or data.draw(st.booleans())):
                track = waiting.pop()
                inside[together.join(track)] = (track, [])
            resting = data.draw(st.sets(st.sampled_from(sorted(inside)), max_size=len(inside) - 1))
            ended = together.step(set(inside) - resting)
            for slot in set(inside) - resting:
                inside[slot][1].append((together.latents(slot), together.denoised(slot)))
            thrown = {slot for slot in inside if data.draw(st.integers(0, 9)) == 0}
            for slot in {*ended, *thrown}:
                together.leave(slot)
                finished.append(inside.pop(slot))
        for track, states in finished:
            alone = pool(1)
            slot = alone.join(track)
            for latents, denoised in states:
                alone.step()
                np.testing.assert_array_equal(latents, alone.latents(slot))
                np.testing.assert_array_equal(denoised, alone.denoised(slot))

    def test_values_that_are_not_finite_stay_with_their_picture(self) -> None:
        """Also in what a slot leaves to the next picture in it."""
        good = [track_of(steps_from(name, count=5), seed) for seed, name in enumerate(("pndm", "dpmpp_2m"))]
        broken = replace(good[1], start=np.full(SHAPE, np.nan, np.float32))
        anchored = track_of(steps_from("pndm", count=5), 7, conditioning_of(7, anchor=anchor_of(7)))
        alone = [states_of(pool_of(NumpyEngine(smooth_network), 1), [track])[0] for track in (*good, anchored)]
        pool = pool_of(NumpyEngine(smooth_network), 3)
        for one, beside in ((good[0], broken), (anchored, broken), (good[1], good[0])):
            states = states_of(pool, [beside, one])[1]
            expected = alone[2 if one is anchored else good.index(one)]
            np.testing.assert_array_equal(states, expected)

    def test_a_step_that_fails_moves_nobody(self) -> None:
        engine = NumpyEngine(smooth_network)
        pool, track = pool_of(engine, 2), track_of(steps_from("unipc", count=4), 1)
        expected = states_of(pool_of(NumpyEngine(smooth_network), 1), [track])[0]
        slot = pool.join(track)
        pool.step()
        engine.fails = True
        with pytest.raises(BackendError):
            pool.step()
        engine.fails = False
        np.testing.assert_array_equal(pool.latents(slot), expected[0])
        for state in expected[1:]:
            pool.step()
            np.testing.assert_array_equal(pool.latents(slot), state)

    def test_rows_of_a_network_that_takes_some_numbers_only(self) -> None:
        """They are padded to what it takes; pictures beyond its rows rest meanwhile."""
        from pixrt.core.pool import HostPool
        from pixrt.core.rows import Rows

        engine = NumpyEngine(smooth_network)
        pool = HostPool(Rows(engine, 6, SIZE, TOKENS, taken=[(3, 3), (5, 6)]), 3, SHAPE)
        tracks = [track_of(steps_from("ddim", (7.5, 1.5), 3, interval=(0.0, 0.5)), seed) for seed in range(3)]
        slots = [pool.join(track) for track in tracks]
        assert not pool.has_room
        for _ in range(3):
            pool.step(slots[:2])
        for _ in range(3):
            pool.step(slots[2:])
        assert engine.rows == [6, 6, 3, 3, 3, 3]
        for slot, track in zip(slots, tracks, strict=True):
            alone = states_of(pool_of(NumpyEngine(smooth_network), 1), [track])[0]
            np.testing.assert_array_equal(pool.leave(slot), alone[-1])
        assert pool.has_room


@pytest.mark.parametrize("steer", [None, 0.5])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_steps_allocate_no_array(scheduler: str, steer: float | None, tiled: bool) -> None:
    """Also if scales differ within the pool, windows end, and states are held or steered."""
    size = (64, 64)
    pool = pool_of(NullEngine(unet_spec()), 3, size, make_tiling(size, 32) if tiled else None)
    latents, text = np.ones((4, *size), np.float32), np.ones((TOKENS, WIDTH), np.float32)
    anchor = Anchor(latents, np.ones((1, *size), np.float32))
    conditioning = Conditioning(dict.fromkeys(Branch, text), anchor=anchor)
    for seed, scales in enumerate([(7.5, 1.5), (3.0, 1.0), (1.0, 1.0)]):
        steps = steps_from(scheduler, scales, 8, interval=(0.0, 0.5), steer=steer)
        pool.join(make_track(steps, seed, conditioning, (4, *size)))
    pool.step()
    for _ in range(3):  # what is bound for fewer rows
        pool.step()
    tracemalloc.start()
    try:
        pool.step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(3):
            pool.step()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # One latent array is 64 KiB; what remains is the interpreter's own small objects.
    assert peak < 8192 + UFUNC_BYTES
