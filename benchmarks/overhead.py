"""The loop's own cost: pixrt's plan beside a NumPy loop written the obvious way, on a network that does nothing.

    python benchmarks/overhead.py

Both sides do one edit's steps on 64x64 latents with 3 branches and the Euler ancestral solver, alternating in one
process. pixrt draws its noise before the loop; that time is printed too, and the second ratio includes it.
"""

import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer

from pixrt.backends.null import NullEngine
from pixrt.bundles.manifest import ComponentSpec, ExportCheck, TensorSpec
from pixrt.core.buffers import Workspace
from pixrt.core.conditioning import Conditioning
from pixrt.core.pipeline import denoise
from pixrt.core.plan import Plan, Schedule, make_plan
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.noise import draw_noise
from pixrt.maths.solvers import build_table

SIZE, CHANNELS, TOKENS, WIDTH = 64, 4, 77, 768
GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE = 7.5, 1.5
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}

UNET = ComponentSpec(
    file="unet.onnx",
    inputs=(
        TensorSpec("sample", "float32", ("batch", 2 * CHANNELS, "height", "width")),
        TensorSpec("timestep", "float32", ("batch",)),
        TensorSpec("encoder_hidden_states", "float32", ("batch", TOKENS, WIDTH)),
    ),
    outputs=(TensorSpec("out_sample", "float32", ("batch", CHANNELS, "height", "width")),),
    kept_fp32=(),
    check=ExportCheck(0.0, 0.0, 0.0),
)


def make_pixrt(
    steps: int, source: np.ndarray[Any, Any], context: np.ndarray[Any, Any]
) -> Callable[[], tuple[Plan, float]]:
    """A function that plans one edit and returns the plan with the seconds that planning and noise took."""
    workspace = Workspace(NullEngine(UNET), 1, (SIZE, SIZE), TOKENS)
    table = build_table("euler_ancestral", SCHEDULER, steps)
    weights = guidance_weights(len(table), GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE, (0.0, 1.0))
    schedule = Schedule(table, weights[:, None])
    conditioning = Conditioning(dict.fromkeys(Branch, context), {Branch.TEXT: source, Branch.IMAGE: source})

    def plan() -> tuple[Plan, float]:
        start = time.perf_counter()
        noise = draw_noise([0], steps, (CHANNELS, SIZE, SIZE), out=workspace.noise(steps))
        made = make_plan(workspace, schedule, noise, conditioning)
        return made, time.perf_counter() - start

    return plan


def naive_loop(
    steps: int,
    source: np.ndarray[Any, Any],
    context: np.ndarray[Any, Any],
    network: Callable[..., np.ndarray[Any, Any]],
) -> np.ndarray[Any, Any]:
    """The loop of a pipeline, transcribed to NumPy: everything is formed anew at every step."""
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    timesteps = np.linspace(0, 999, steps)[::-1]
    sigmas = np.append(np.interp(timesteps, np.arange(1000), ((1 - alphas) / alphas) ** 0.5), 0.0).astype(np.float32)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((1, CHANNELS, SIZE, SIZE), dtype=np.float32) * sigmas.max()
    sources = np.concatenate([source, source, np.zeros_like(source)])
    contexts = np.concatenate([context] * 3)
    for i, t in enumerate(timesteps):
        scaled = np.concatenate([x] * 3) / (sigmas[i] ** 2 + 1) ** 0.5
        sample = np.concatenate([scaled, sources], axis=1)
        eps_text, eps_image, eps_uncond = np.split(network(sample, t, contexts), 3)
        eps = eps_uncond + GUIDANCE_SCALE * (eps_text - eps_image) + IMAGE_GUIDANCE_SCALE * (eps_image - eps_uncond)
        denoised = x - sigmas[i] * eps
        sigma_up = (sigmas[i + 1] ** 2 * (sigmas[i] ** 2 - sigmas[i + 1] ** 2) / sigmas[i] ** 2) ** 0.5
        sigma_down = (sigmas[i + 1] ** 2 - sigma_up**2) ** 0.5
        derivative = (x - denoised) / sigmas[i]
        x = x + derivative * (sigma_down - sigmas[i])
        x = x + generator.standard_normal(x.shape, dtype=np.float32) * sigma_up
    return x


def main(
    steps: Annotated[int, typer.Option(help="Steps of the edit.")] = 20,
    repeats: Annotated[int, typer.Option(help="Edits of each side, alternating.")] = 101,
) -> None:
    generator = np.random.default_rng(1)
    source = generator.standard_normal((1, CHANNELS, SIZE, SIZE), dtype=np.float32)
    context = generator.standard_normal((1, TOKENS, WIDTH), dtype=np.float32)
    answer = np.zeros((3, CHANNELS, SIZE, SIZE), np.float32)
    plan = make_pixrt(steps, source, context)
    ours, planning, naive = [], [], []
    for repeat in range(repeats + 3):  # the first three warm up
        made, plan_s = plan()
        start = time.perf_counter()
        for _ in denoise(made):
            pass
        middle = time.perf_counter()
        naive_loop(steps, source, context, lambda sample, t, contexts: answer)
        end = time.perf_counter()
        if repeat >= 3:
            ours.append((middle - start) / steps * 1e3)
            planning.append(plan_s / steps * 1e3)
            naive.append((end - middle) / steps * 1e3)

    print(
        f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__};"
        f" {steps} steps of Euler ancestral,"
    )
    print(f"{SIZE}x{SIZE} latents, 3 branches, null network; {repeats} edits of each side, alternating; ms per step")
    for name, values in (("pixrt loop", ours), ("pixrt plan and noise", planning), ("naive loop", naive)):
        print(f"{name:22}median {statistics.median(values):.4f}  min {min(values):.4f}  max {max(values):.4f}")
    with_plan = [a + b for a, b in zip(ours, planning, strict=True)]
    print(f"naive / pixrt loop: {statistics.median(naive) / statistics.median(ours):.1f}")
    print(f"naive / (pixrt loop + plan and noise): {statistics.median(naive) / statistics.median(with_plan):.1f}")
    peak = allocated(plan()[0])
    smallest = CHANNELS * SIZE * SIZE * 4
    print(
        f"allocated inside pixrt's loop (tracemalloc peak): {peak} bytes of small objects; one array of latents is"
        f" {smallest} bytes, so arrays: {peak // smallest}"
    )


def allocated(plan: Plan) -> int:
    """The most that one run of the loop adds to what Python and NumPy hold, in bytes."""
    tracemalloc.start()
    try:
        loop = denoise(plan)
        next(loop)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in loop:
            pass
        return max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    typer.run(main)
