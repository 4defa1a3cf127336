"""The loop does what its plan says, runs only the branches it needs, and allocates nothing."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import TOKENS, WIDTH, NumpyEngine, smooth_network, unet_spec
from pixrt.backends.null import NullEngine
from pixrt.buffers import Workspace
from pixrt.conditioning import Conditioning
from pixrt.guidance import Branch, guidance_weights
from pixrt.noise import draw_noise
from pixrt.options import SCHEDULERS
from pixrt.pipeline import denoise
from pixrt.plan import Plan, make_plan
from pixrt.schedulers import build_table

SIZE = (6, 10)
SHAPE = (4, *SIZE)
CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def condition(plan: Plan, seeds: list[int]) -> dict[str, NDArray[np.float32]]:
    draws = [np.random.default_rng(1000 + seed) for seed in seeds]
    text = np.stack([draw.standard_normal((TOKENS, WIDTH)).astype(np.float32) for draw in draws])
    source = np.stack([draw.standard_normal(SHAPE).astype(np.float32) for draw in draws])
    null = np.full_like(text, 0.25)
    plan.condition(
        Conditioning(
            {Branch.TEXT: list(text), Branch.IMAGE: list(null), Branch.UNCOND: list(null)},
            {Branch.TEXT: list(source), Branch.IMAGE: list(source)},
        )
    )
    return {"text": text, "source": source, "null": null}


def run(
    scheduler: str, seeds: list[int], scales: tuple[float, float], steps: int = 6, dtype: Any = "float32"
) -> tuple[list[NDArray[np.float32]], NumpyEngine]:
    engine = NumpyEngine(smooth_network, dtype)
    workspace = Workspace(engine, len(seeds), SIZE, TOKENS)
    table = build_table(scheduler, CONFIG, steps)
    plan = make_plan(
        workspace, table, guidance_weights(len(table), *scales, (0.0, 1.0)), draw_noise(seeds, len(table), SHAPE)
    )
    condition(plan, seeds)
    return [state.latents() for state in denoise(plan)], engine


def naive(scheduler: str, seed: int, scales: tuple[float, float], steps: int = 6) -> list[NDArray[np.float64]]:
    """The table's docstring and the published guidance, in float64, one picture, all three branches always."""
    table = build_table(scheduler, CONFIG, steps)
    noise = draw_noise([seed], len(table), SHAPE)[:, 0].astype(np.float64)
    workspace = Workspace(NullEngine(unet_spec()), 1, SIZE, TOKENS)
    weights = guidance_weights(1, *scales, (0.0, 1.0))
    given = condition(make_plan(workspace, table, np.repeat(weights, len(table), 0), noise[:, None].copy()), [seed])
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
        weights = guidance_weights(len(table), 7.5, 1.5, (0.0, 1.0))
        plan = make_plan(workspace, table, weights, draw_noise([9], len(table), SHAPE))
        condition(plan, [9])
        for _ in denoise(plan):
            pass
        finals.append(plan.latents())
    np.testing.assert_array_equal(finals[0], finals[2])
    assert not np.array_equal(finals[0], finals[1])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_loop_allocates_no_array(scheduler: str) -> None:
    size = (64, 64)
    workspace = Workspace(NullEngine(unet_spec()), 2, size, TOKENS)
    table = build_table(scheduler, CONFIG, 8)
    weights = guidance_weights(len(table), 7.5, 1.5, (0.0, 1.0))
    plan = make_plan(workspace, table, weights, draw_noise([0, 1], len(table), (4, *size)))
    loop = denoise(plan)
    next(loop)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in loop:
            pass
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # One latent array is 128 KiB; what remains is the interpreter's own small objects.
    assert peak < 4096
