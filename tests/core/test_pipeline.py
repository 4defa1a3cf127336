"""The loop does what its plan says, runs only the branches it needs, and allocates nothing."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import TOKENS, WIDTH, NumpyEngine, smooth_network, unet_spec
from pixrt.backends.null import NullEngine
from pixrt.core.buffers import Workspace
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.core.pipeline import denoise
from pixrt.core.plan import Schedule, make_plan
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.noise import draw_noise
from pixrt.maths.solvers import build_table
from pixrt.maths.solvers.table import StepTable
from pixrt.options.tasks import SCHEDULERS

SIZE = (6, 10)
SHAPE = (4, *SIZE)
CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def given_to(seeds: list[int]) -> tuple[dict[str, NDArray[np.float32]], Conditioning]:
    draws = [np.random.default_rng(1000 + seed) for seed in seeds]
    text = np.stack([draw.standard_normal((TOKENS, WIDTH)).astype(np.float32) for draw in draws])
    source = np.stack([draw.standard_normal(SHAPE).astype(np.float32) for draw in draws])
    null = np.full_like(text, 0.25)
    conditioning = Conditioning(
        {Branch.TEXT: list(text), Branch.IMAGE: list(null), Branch.UNCOND: list(null)},
        {Branch.TEXT: list(source), Branch.IMAGE: list(source)},
    )
    return {"text": text, "source": source, "null": null}, conditioning


def schedule_of(table: StepTable, scales: tuple[float, float], batch: int = 1) -> Schedule:
    weights = np.repeat(guidance_weights(len(table), *scales, (0.0, 1.0))[:, None], batch, 1)
    return Schedule(table, weights)


def run(
    scheduler: str, seeds: list[int], scales: tuple[float, float], steps: int = 6, dtype: Any = "float32"
) -> tuple[list[NDArray[np.float32]], NumpyEngine]:
    engine = NumpyEngine(smooth_network, dtype)
    workspace = Workspace(engine, len(seeds), SIZE, TOKENS)
    table = build_table(scheduler, CONFIG, steps)
    noise = draw_noise(seeds, len(table), SHAPE)
    plan = make_plan(workspace, schedule_of(table, scales, len(seeds)), noise, given_to(seeds)[1])
    return [state.latents() for state in denoise(plan)], engine


def naive(scheduler: str, seed: int, scales: tuple[float, float], steps: int = 6) -> list[NDArray[np.float64]]:
    """The table's docstring and the published guidance, in float64, one picture, all three branches always."""
    table = build_table(scheduler, CONFIG, steps)
    noise = draw_noise([seed], len(table), SHAPE)[:, 0].astype(np.float64)
    given, _ = given_to([seed])
    x, stored, states = table.initial_scale * noise[0], [], []
    for i in range(len(table)):
        eps = []
        for text, source in ((given["text"], given["source"]), (given["null"], given["source"]), (given["null"], 0)):
            sample = np.concatenate([(table.input_scale[i] * x)[None], np.zeros((1, *SHAPE)) + source], axis=1)
            eps.append(smooth_network(sample, np.array([table.timesteps[i]]), text)[0].astype(np.float64))
        output = eps[2] + scales[0] * (eps[0] - eps[1]) + scales[1] * (eps[1] - eps[2])
        new = table.x[i] * x + table.output[i] * output + table.noise[i] * noise[1 + i]
        for k, old in enumerate(reversed(stored[-table.depth :] if table.depth else [])):
            new = new + table.history[i, k] * old
        stored.append(table.store_x[i] * x + table.store_output[i] * output)
        x = new
        states.append(x)
    return states


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("scales", [(7.5, 1.5), (1.0, 1.0), (3.0, 3.0), (2.0, 0.5)])
def test_every_state_is_the_tables(scheduler: str, scales: tuple[float, float]) -> None:
    states, _ = run(scheduler, [5], scales)
    expected = naive(scheduler, 5, scales)
    assert len(states) == len(expected)
    for ours, theirs in zip(states, expected, strict=True):
        # Both sides do the same sums, one in float32: a few units in the last place of the largest term.
        np.testing.assert_allclose(ours[0], theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_picture_does_not_depend_on_its_batch(scheduler: str) -> None:
    together, _ = run(scheduler, [1, 2, 3], (7.5, 1.5))
    for place, seed in enumerate([1, 2, 3]):
        alone, _ = run(scheduler, [seed], (7.5, 1.5))
        for batch, single in zip(together, alone, strict=True):
            np.testing.assert_array_equal(batch[place], single[0])


@pytest.mark.parametrize(("scales", "rows"), [((7.5, 1.5), 3), ((7.5, 1.0), 2), ((3.0, 3.0), 2), ((1.0, 1.0), 1)])
def test_only_branches_with_a_weight_run(scales: tuple[float, float], rows: int) -> None:
    _, engine = run("euler", [1, 2], scales)
    assert engine.rows == [2 * rows] * 6


def test_both_scales_one_is_the_text_branch_alone() -> None:
    _, engine = run("ddim", [4], (1.0, 1.0))
    with_all, full = run("ddim", [4], (1.0 + 1e-9, 1.0 + 1e-9))
    assert engine.rows == [1] * 6
    assert full.rows == [2] * 6
    alone, _ = run("ddim", [4], (1.0, 1.0))
    np.testing.assert_allclose(with_all[-1], alone[-1], atol=1e-4)


def test_the_source_half_is_written_once_and_zero_for_the_null_picture() -> None:
    _, engine = run("euler", [1, 2], (7.5, 1.5))
    first = engine.samples[0].reshape(3, 2, 8, *SIZE)[:, :, 4:]
    for sample in engine.samples:
        np.testing.assert_array_equal(sample.reshape(3, 2, 8, *SIZE)[:, :, 4:], first)
    np.testing.assert_array_equal(first[0], first[1])
    assert np.abs(first[0]).min() > 0
    assert not first[2].any()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_pictures_with_other_scales_run_together(scheduler: str) -> None:
    """Each as it would be alone, to the bit, also where its company needs more branches."""
    engine = NumpyEngine(smooth_network)
    scales = [(7.5, 1.5), (3.0, 1.0), (1.0, 1.0)]
    table = build_table(scheduler, CONFIG, 5)
    schedule = schedule_of(table, (1.0, 1.0), 3)
    for item, pair in enumerate(scales):
        schedule.weights[:, item] = guidance_weights(len(table), *pair, (0.0, 1.0))
    noise = draw_noise([1, 2, 3], len(table), SHAPE)
    plan = make_plan(Workspace(engine, 3, SIZE, TOKENS), schedule, noise, given_to([1, 2, 3])[1])
    together = [state.latents() for state in denoise(plan)]
    for item, pair in enumerate(scales):
        alone, _ = run(scheduler, [item + 1], pair, 5)
        for batch, single in zip(together, alone, strict=True):
            np.testing.assert_array_equal(batch[item], single[0])


class TestAnchors:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    @pytest.mark.parametrize("start", [0, 3])
    def test_what_is_held_is_the_known_latents_noised_to_the_level(self, scheduler: str, start: int) -> None:
        draw = np.random.default_rng(3)
        known = draw.standard_normal(SHAPE).astype(np.float32)
        where = np.zeros((1, *SIZE), np.float32)
        where[:, 2:] = 1
        table = build_table(scheduler, CONFIG, 6, start=start)
        noise = draw_noise([4], len(table), SHAPE)
        first, schedule = noise[0, 0].copy(), schedule_of(table, (7.5, 1.5))
        conditioning = replace(given_to([4])[1], anchors=[Anchor(known, where)], initial=[known] if start else [])
        plan = make_plan(Workspace(NumpyEngine(smooth_network), 1, SIZE, TOKENS), schedule, noise, conditioning)
        states = [state.latents()[0] for state in denoise(plan)]
        for step, state in enumerate(states):
            alpha, sigma = table.level_after(step)
            expected = np.float32(alpha) * known + np.float32(sigma) * first
            np.testing.assert_allclose(state[:, 2:], expected[:, 2:], atol=1e-6 * np.abs(expected).max())
            assert not np.allclose(state[:, :2], expected[:, :2], atol=1e-3)
        np.testing.assert_array_equal(states[-1][:, 2:], known[:, 2:])  # the last level is clean

    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_steering_moves_the_clean_latents_part_of_the_way(self, scheduler: str, weight: float) -> None:
        known, table = np.full(SHAPE, 2, np.float32), build_table(scheduler, CONFIG, 4)

        def first(steer: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            schedule = replace(schedule_of(table, (7.5, 1.5)), steer=np.full((len(table), 1), steer))
            conditioning = replace(given_to([4])[1], anchors=[Anchor(known, np.ones((1, *SIZE), np.float32))])
            workspace = Workspace(NumpyEngine(smooth_network), 1, SIZE, TOKENS)
            state = next(denoise(make_plan(workspace, schedule, draw_noise([4], len(table), SHAPE), conditioning)))
            return state.latents()[0], state.denoised()[0]

        alpha, _ = table.level_after(0)
        free, predicted = first(0.0)
        expected = free + weight * alpha * (known - predicted)
        np.testing.assert_allclose(first(weight)[0], expected, atol=1e-5 * np.abs(expected).max())

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_steering_keeps_the_level_of_noise(self, scheduler: str) -> None:
        """With the right noise predicted the state stays the steered clean latents and noise of the level's size."""
        steps, shape = 12, (4, 24, 24)
        table = build_table(scheduler, CONFIG, steps, start=4)
        target = np.zeros(shape, np.float32)  # of clean latents that are 0 anyway: what is left is noise
        seen: list[tuple[float, float]] = []

        def exact(sample: Any, timestep: Any, context: Any) -> Any:
            return sample[:, :4] / np.float32(spread)  # eps, where the state is sigma eps

        engine = NumpyEngine(exact)
        schedule = replace(schedule_of(table, (1.0, 1.0)), steer=np.full((len(table), 1), 0.7))
        text = [np.ones((TOKENS, WIDTH), np.float32)]
        sources = [np.zeros(shape, np.float32)]
        where = np.ones((1, *shape[1:]), np.float32)
        conditioning = Conditioning(
            dict.fromkeys(Branch, text),
            {Branch.TEXT: sources},
            initial=[target],
            anchors=[Anchor(target, where)],
        )
        workspace = Workspace(engine, 1, shape[1:], TOKENS)
        spread = table.input_scale[0] * table.sigma[0]
        for step, state in enumerate(
            denoise(make_plan(workspace, schedule, draw_noise([1], len(table), shape), conditioning))
        ):
            sigma = table.level_after(step)[1]
            seen.append((float(state.latents().std()), sigma))
            if step + 1 < len(table):
                spread = table.input_scale[step + 1] * sigma
        for made, wanted in seen[:-1]:
            assert abs(made - wanted) <= 0.06 * wanted, seen  # 2304 values: a deviation is known to 1.5 %

    def test_an_earlier_batchs_anchors_are_gone(self) -> None:
        workspace, table = Workspace(NumpyEngine(smooth_network), 1, SIZE, TOKENS), build_table("ddim", CONFIG, 4)
        conditioning, schedule = given_to([4])[1], schedule_of(table, (7.5, 1.5))
        anchor = Anchor(np.ones(SHAPE, np.float32), np.ones((1, *SIZE), np.float32))
        expected, _ = run("ddim", [4], (7.5, 1.5), 4)
        for given in (replace(conditioning, anchors=[anchor]), conditioning):
            plan = make_plan(workspace, schedule, draw_noise([4], 0, SHAPE), given)
            states = [state.latents() for state in denoise(plan)]
        np.testing.assert_array_equal(states[-1], expected[-1])


def test_fp16_networks_are_fed_fp16() -> None:
    states, engine = run("euler_ancestral", [1], (7.5, 1.5), dtype="float16")
    assert engine.samples[0].dtype == np.float16
    expected = naive("euler_ancestral", 1, (7.5, 1.5))
    # Half precision has 11 bits; guidance multiplies the rounding of each branch by up to 7.5.
    np.testing.assert_allclose(states[-1][0], expected[-1], atol=2e-2 * np.abs(expected[-1]).max())


def test_a_workspace_can_be_used_again() -> None:
    engine = NumpyEngine(smooth_network)
    workspace = Workspace(engine, 1, SIZE, TOKENS)
    finals = []
    for scheduler in ("dpmpp_2m", "pndm", "dpmpp_2m"):
        table = build_table(scheduler, CONFIG, 5)
        noise = draw_noise([9], len(table), SHAPE)
        plan = make_plan(workspace, schedule_of(table, (7.5, 1.5)), noise, given_to([9])[1])
        for _ in denoise(plan):
            pass
        finals.append(plan.latents())
    np.testing.assert_array_equal(finals[0], finals[2])
    assert not np.array_equal(finals[0], finals[1])


@pytest.mark.parametrize("steer", [None, np.full((8, 2), 0.5)])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_loop_allocates_no_array(scheduler: str, steer: Any) -> None:
    """Also where scales differ within the batch, and states are held or steered."""
    size = (64, 64)
    workspace = Workspace(NullEngine(unet_spec()), 2, size, TOKENS)
    table = build_table(scheduler, CONFIG, 8)
    schedule = schedule_of(table, (7.5, 1.5), 2)
    schedule.weights[:, 1] = guidance_weights(len(table), 3.0, 1.0, (0.0, 0.5))
    schedule = replace(schedule, steer=None if steer is None else np.resize(steer, (len(table), 2)))
    latents, text = np.ones((4, *size), np.float32), np.ones((TOKENS, WIDTH), np.float32)
    anchor = Anchor(latents, np.ones((1, *size), np.float32))
    conditioning = Conditioning(dict.fromkeys(Branch, [text] * 2), anchors=[anchor] * 2)
    peaks = []
    for _ in range(3):  # a test runner's other threads allocate too, now and then
        plan = make_plan(workspace, schedule, draw_noise([0, 1], len(table), (4, *size)), conditioning)
        loop = denoise(plan)
        next(loop)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for _ in loop:
                pass
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
    # One latent array is 128 KiB; what remains is the interpreter's own small objects.
    assert min(peaks) < 4096
