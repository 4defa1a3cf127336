"""Every solver's table against diffusers' own scheduler class, on the same network outputs and noise."""

import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from oracle import DIFFUSERS
from pixrt.errors import OptionError
from pixrt.maths.solvers import build_table, scheduler_name
from pixrt.maths.solvers.table import StepTable
from pixrt.options.choices import SCHEDULERS

SHAPE = (2, 4, 3, 5)
STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
# Both sides step in float32. diffusers also keeps alphas_cumprod in float32, where 1 - 0.99915 has lost four of its
# digits: here its classes get the same betas multiplied up in float64. Without that it differs by FLOAT32_ALPHAS.
RELATIVE = 1e-5
FLOAT32_ALPHAS = 1e-4


def network(sample: NDArray[np.float32], t: float) -> NDArray[np.float32]:
    """A bounded function of state and time, so that an error in either shows."""
    return np.tanh(sample * 0.8 + np.float32(t / 1000)).astype(np.float32)


def ours(
    table: StepTable, noise: NDArray[np.float32], clean: NDArray[np.float32] | None = None
) -> list[NDArray[np.float32]]:
    x = np.float32(table.initial_scale) * noise[0]
    if clean is not None:
        x = np.float32(table.alpha[0]) * clean + np.float32(table.sigma[0]) * noise[0]
    stored: list[NDArray[np.float32]] = []
    states = []
    for i in range(len(table)):
        output = network(np.float32(table.input_scale[i]) * x, table.timesteps[i])
        new = np.float32(table.x[i]) * x + np.float32(table.output[i]) * output
        for k in range(min(i, table.depth)):
            new = new + np.float32(table.history[i, k]) * stored[-1 - k]
        stored.append(np.float32(table.store_x[i]) * x + np.float32(table.store_output[i]) * output)
        x = new + np.float32(table.noise[i]) * noise[1 + i]
        states.append(x)
    return states


def theirs(
    name: str,
    config: dict[str, Any],
    steps: int,
    noise: NDArray[np.float32],
    eta: float,
    exact_alphas: bool,
    start: int = 0,
    clean: NDArray[np.float32] | None = None,
) -> list[NDArray[np.float32]]:
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    class_name, settings = DIFFUSERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(diffusers, class_name).from_config(config, **settings)
        if exact_alphas:
            smallest = scheduler.alphas_cumprod[-1].double()
            scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
            if config.get("rescale_betas_zero_snr"):
                scheduler.alphas_cumprod[-1] = smallest  # 0, or 2**-24 in the classes that divide by it
            if not getattr(scheduler.config, "set_alpha_to_one", True):
                scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
        scheduler.set_timesteps(steps)
    draws: Iterator[Any] = iter(torch.from_numpy(noise[1:]))
    x = torch.from_numpy(noise[0].copy()) * scheduler.init_noise_sigma
    timesteps = scheduler.timesteps[start:]
    if clean is not None:  # as img2img begins
        if name == "pndm":  # the step that is taken twice is the first that is left
            single = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[2:]])[start:]
            timesteps = torch.cat([single[:1], single[1:2], single[1:]])
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        x = scheduler.add_noise(torch.from_numpy(clean), torch.from_numpy(noise[0].copy()), timesteps[:1])
    extra = {"eta": eta} if name == "ddim" else {}
    states = []
    module = type(scheduler).__module__
    with mock.patch(f"{module}.randn_tensor", side_effect=draws, create=True):
        for t in timesteps:
            output = torch.from_numpy(network(scheduler.scale_model_input(x, t).numpy(), float(t)))
            x = scheduler.step(output, t, x, **extra).prev_sample
            states.append(x.numpy().copy())
    return states


def deviation(
    name: str, config: dict[str, Any], steps: int, eta: float = 0.0, *, exact_alphas: bool = True, start: int = 0
) -> float:
    """The largest difference of any state, relative to that state's largest value."""
    table = build_table(name, config, steps, eta=eta, start=start)
    clean = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32) if start else None
    noise = np.random.default_rng(steps).standard_normal((1 + len(table), *SHAPE)).astype(np.float32)
    a, b = ours(table, noise, clean), theirs(name, config, steps, noise, eta, exact_alphas, start, clean)
    assert len(a) == len(b)
    return max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(a, b, strict=True))


pytestmark = pytest.mark.torch


@pytest.mark.parametrize("prediction_type", ["epsilon", pytest.param("v_prediction", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_count_agrees_with_diffusers(name: str, prediction_type: str) -> None:
    config = STABLE_DIFFUSION | {"prediction_type": prediction_type}
    counts = range(1, 51 if name == "lcm" else 101)
    worst = max((deviation(name, config, steps), steps) for steps in counts)
    assert worst[0] < RELATIVE, f"{worst[0]:.1e} at {worst[1]} steps"


@pytest.mark.parametrize(("steps", "start"), [(2, 1), (7, 1), (7, 3), (7, 6), (20, 5), (50, 49), (50, 20)])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_start_in_the_middle(name: str, steps: int, start: int) -> None:
    """From clean latents, noised to where the steps begin that are left."""
    assert deviation(name, STABLE_DIFFUSION, steps, start=start) < RELATIVE


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_diffusers_untouched(name: str, steps: int) -> None:
    assert deviation(name, STABLE_DIFFUSION, steps, exact_alphas=False) < FLOAT32_ALPHAS


@pytest.mark.parametrize("steps", [1, 2, 7, 33, 100])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "lcm"])
def test_every_spacing(name: str, spacing: str, steps: int) -> None:
    assert deviation(name, STABLE_DIFFUSION | {"timestep_spacing": spacing}, steps) < RELATIVE


@pytest.mark.parametrize("steps", [1, 2, 20, 100])
@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": list(np.linspace(0.0001, 0.01, 1000))},
        {"set_alpha_to_one": True, "steps_offset": 0},
        {"num_train_timesteps": 500},
    ],
    ids=lambda change: next(iter(change)) + str(next(iter(change.values())))[:6],
)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule(name: str, change: dict[str, Any], steps: int) -> None:
    if name == "lcm" and steps > 50:
        return
    if name == "dpmpp_2m_karras" and "squaredcos_cap_v2" in change.values():
        return  # diffusers truncates these timesteps to duplicates, and then fails on its own index
    if (name, steps) == ("euler_ancestral", 2) and "squaredcos_cap_v2" in change.values():
        return  # sigma falls from 20000 to 1: diffusers' sigma_down is the root of a negative float32, NaN
    assert deviation(name, STABLE_DIFFUSION | change, steps) < RELATIVE


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 20, 100])
def test_ddim_with_noise(steps: int, eta: float) -> None:
    assert deviation("ddim", STABLE_DIFFUSION, steps, eta) < RELATIVE


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("change", [{"use_karras_sigmas": True}, {"final_sigmas_type": "sigma_min"}])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_sigma_settings(name: str, change: dict[str, Any], steps: int) -> None:
    assert deviation(name, STABLE_DIFFUSION | change, steps) < RELATIVE


@pytest.mark.parametrize("name", ["ddim", "ddpm", "euler", "euler_ancestral", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("steps", [2, 20])
def test_zero_terminal_snr(name: str, steps: int) -> None:
    change = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    # The first sigma is 4096, and x and its update cancel to order 1: float32 leaves 4096 * 2**-24 = 2.4e-4 per side.
    assert deviation(name, STABLE_DIFFUSION | change, steps) < 5e-4


@pytest.mark.parametrize("name", SCHEDULERS)
def test_defaults_are_the_classs(name: str) -> None:
    assert deviation(name, {"clip_sample": False, "skip_prk_steps": True}, 10) < RELATIVE


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_saved_class_has_a_name(name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    class_name, settings = DIFFUSERS[name]
    saved = dict(getattr(diffusers, class_name).from_config(STABLE_DIFFUSION, **settings).config)
    assert scheduler_name({**saved, "_class_name": class_name}) == name


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("ddim", {"clip_sample": True}, "clip_sample True"),
        ("ddim", {"thresholding": True}, "thresholding True"),
        ("ddim", {"prediction_type": "sample"}, "prediction_type 'sample'"),
        ("ddim", {"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'"),
        ("ddim", {"timestep_spacing": "random"}, "timestep_spacing 'random'"),
        ("ddim", {"rescale_betas_zero_snr": True}, "zero terminal SNR"),
        ("ddpm", {"variance_type": "learned"}, "variance_type 'learned'"),
        ("pndm", {"skip_prk_steps": False}, "skip_prk_steps False"),
        ("dpmpp_2m", {"solver_order": 3}, "solver_order 3"),
        ("dpmpp_2m", {"solver_type": "heun"}, "solver_type 'heun'"),
        ("dpmpp_2m", {"use_lu_lambdas": True}, "use_lu_lambdas True"),
        ("dpmpp_2m", {"lambda_min_clipped": -5.1}, "lambda_min_clipped -5.1"),
        ("unipc", {"predict_x0": False}, "predict_x0 False"),
        ("unipc", {"use_flow_sigmas": True}, "use_flow_sigmas True"),
        ("euler", {"interpolation_type": "log_linear"}, "interpolation_type 'log_linear'"),
        ("euler", {"timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ("euler", {"final_sigmas_type": "one"}, "final_sigmas_type 'one'"),
    ],
)
def test_what_is_not_computed_is_refused(name: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        build_table(name, STABLE_DIFFUSION | change, 10)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.filterwarnings("error")
def test_a_table_is_finite_or_refused(name: str, spacing: str, zero_snr: bool) -> None:
    change = {"timestep_spacing": spacing, "rescale_betas_zero_snr": zero_snr, "prediction_type": "v_prediction"}
    for steps in (1, 2, 50, 500, 998, 999, 1000):
        try:
            table = build_table(name, STABLE_DIFFUSION | change, steps)
        except OptionError as error:
            assert steps > 50 or (name, zero_snr) == ("pndm", True), error  # noqa: PT017
        else:
            assert table.is_finite()


def test_more_steps_than_there_are() -> None:
    with pytest.raises(OptionError, match="more than the 500"):
        build_table("ddim", STABLE_DIFFUSION | {"num_train_timesteps": 500}, 501)
    with pytest.raises(OptionError, match="at most 50"):
        build_table("lcm", STABLE_DIFFUSION, 51)
    with pytest.raises(OptionError, match="HeunDiscreteScheduler"):
        scheduler_name({"_class_name": "HeunDiscreteScheduler"})
    with pytest.raises(OptionError, match="Choose one of"):
        build_table("heun", STABLE_DIFFUSION, 5)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in ("ddpm", "lcm")])
@pytest.mark.parametrize("steps", [1, 2, 20, 50])
def test_a_perfect_network_ends_at_the_picture(name: str, steps: int) -> None:
    """A network that knows the picture (here one number) leads to it, and every prediction on the way is it."""
    picture = 0.7
    config = STABLE_DIFFUSION | {"set_alpha_to_one": True, "timestep_spacing": "trailing"}
    table = build_table(name, config, steps)
    x, stored = table.initial_scale * 1.3, [0.0] * 4
    for i in range(len(table)):
        if table.denoised_output[i] == 0:
            continue
        output = (picture - table.denoised_x[i] * x) / table.denoised_output[i]
        new = table.x[i] * x + table.output[i] * output
        new += sum(table.history[i, k] * stored[-1 - k] for k in range(table.depth))
        stored.append(table.store_x[i] * x + table.store_output[i] * output)
        x = new
    assert x == pytest.approx(picture, abs=1e-9)
