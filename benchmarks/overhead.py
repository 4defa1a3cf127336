"""The loop's own cost: pixrt's pool beside a NumPy loop written the obvious way, on a network that does nothing.

    python benchmarks/overhead.py

Both sides do one edit's steps on 64x64 latents with 3 branches and the Euler ancestral solver, alternating in one
process. pixrt draws a picture's noise when it joins; that time is printed too, and the second ratio includes it. Then
16 pictures of all solvers advance in one pool; beside it, what a machine needs only to move the arrays of such a step:
every state into its rows, every row's output and every picture's noise once. The limits are 0.05 ms a step for one
picture and 0.3 ms for 16, and no array may be allocated between steps; it ends with 1 if one of them is broken.
"""

import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import typer

from pixrt.backends.null import NullEngine
from pixrt.bundles.manifest import ComponentSpec, ExportCheck, TensorSpec
from pixrt.core.conditioning import Conditioning
from pixrt.core.pool import HostPool
from pixrt.core.rows import Rows
from pixrt.core.track import Track, make_track, steps_of
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.solvers import build_table
from pixrt.options.choices import SCHEDULERS

SIZE, CHANNELS, TOKENS, WIDTH = 64, 4, 77, 768
SLOTS = 16
LIMITS_MS = {"one picture": 0.05, "many pictures": 0.3}
WARM_UP = 3
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


def make_pool(slots: int) -> HostPool:
    """A pool on the null network."""
    rows = Rows(NullEngine(UNET), slots * len(Branch), (SIZE, SIZE), TOKENS)
    return HostPool(rows, slots, (CHANNELS, SIZE, SIZE))


def make_a_track(solver: str, steps: int, seed: int) -> Track:
    """A picture with three branches at every step."""
    generator = np.random.default_rng(seed)
    source = generator.standard_normal((CHANNELS, SIZE, SIZE), dtype=np.float32)
    context = generator.standard_normal((TOKENS, WIDTH), dtype=np.float32)
    table = build_table(solver, SCHEDULER, steps)
    weights = guidance_weights(len(table), GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE, (0.0, 1.0))
    conditioning = Conditioning(dict.fromkeys(Branch, context), {Branch.TEXT: source, Branch.IMAGE: source})
    return make_track(steps_of(table, weights), seed, conditioning, (CHANNELS, SIZE, SIZE))


def run(pool: HostPool, tracks: Sequence[Track], steps: int) -> tuple[float, float]:
    """Let pictures join, and take the steps: seconds of joining, and of the steps."""
    start = time.perf_counter()
    slots = [pool.join(track) for track in tracks]
    middle = time.perf_counter()
    for _ in range(steps):
        pool.step()
    end = time.perf_counter()
    for slot in slots:
        pool.leave(slot)
    return middle - start, end - middle


def make_moves(steps: int) -> Callable[[int], None]:
    """What copies the arrays of a step of all slots, each once, and calculates nothing."""
    shape = (CHANNELS, SIZE, SIZE)
    rows = np.zeros((SLOTS, len(Branch), 2 * CHANNELS, SIZE, SIZE), np.float32)
    outputs = np.zeros((SLOTS, len(Branch), *shape), np.float32)
    states, others = np.zeros((SLOTS, *shape), np.float32), np.zeros((SLOTS, *shape), np.float32)
    noise = np.zeros((SLOTS, steps, *shape), np.float32)
    read, drawn = np.zeros((len(Branch), *shape), np.float32), np.zeros(shape, np.float32)

    def move(at: int) -> None:
        for slot in range(SLOTS):
            np.copyto(rows[slot, :, :CHANNELS], states[slot])
            np.copyto(read, outputs[slot])
            np.copyto(drawn, noise[slot, at])
            np.copyto(others[slot], states[slot])

    return move


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
    one, many = make_pool(1), make_pool(SLOTS)
    track = make_a_track("euler_ancestral", steps, 0)
    mixed = [make_a_track(SCHEDULERS[number % len(SCHEDULERS)], steps, number) for number in range(SLOTS)]
    move = make_moves(steps)
    names = ("one picture", "joining", "naive loop", "many pictures", "their arrays moved")
    figures: dict[str, list[float]] = {name: [] for name in names}

    def keep(repeat: int, **seconds: float) -> None:
        if repeat >= WARM_UP:
            for name, each in seconds.items():
                figures[name.replace("_", " ")].append(each / steps * 1e3)

    # One after the other: 16 pictures leave nothing of a single one in the caches.
    for repeat in range(repeats + WARM_UP):
        joining, ours = run(one, [track], steps)
        start = time.perf_counter()
        naive_loop(steps, source, context, lambda sample, t, contexts: answer)
        keep(repeat, joining=joining, one_picture=ours, naive_loop=time.perf_counter() - start)
    for repeat in range(repeats + WARM_UP):
        _, together = run(many, mixed, steps)
        start = time.perf_counter()
        for at in range(steps):
            move(at)
        keep(repeat, many_pictures=together, their_arrays_moved=time.perf_counter() - start)

    print(
        f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}; {steps} steps,"
        f" {SIZE}x{SIZE} latents, 3 branches, null network;"
    )
    print(f"one picture of Euler ancestral; many: {SLOTS} of all solvers; {repeats} runs of each; ms per step of all")
    for name, values in figures.items():
        print(f"{name:22}median {statistics.median(values):.4f}  min {min(values):.4f}  max {max(values):.4f}")
    medians = {name: statistics.median(values) for name, values in figures.items()}
    with_joining = medians["one picture"] + medians["joining"]
    print(f"naive / pixrt: {medians['naive loop'] / medians['one picture']:.1f}")
    print(f"naive / (pixrt with joining): {medians['naive loop'] / with_joining:.1f}")
    smallest, arrays = CHANNELS * SIZE * SIZE * 4, 0
    for pool, tracks in ((one, [track]), (many, mixed)):
        peak = allocated(pool, tracks, steps)
        arrays += peak // smallest
        print(
            f"allocated between steps of {len(tracks)} (tracemalloc peak): {peak} bytes of small objects; one array of"
            f" latents is {smallest} bytes, so arrays: {peak // smallest}"
        )
    broken = [name for name, limit in LIMITS_MS.items() if medians[name] > limit]
    for name in broken:
        print(f"{name}: {medians[name]:.4f} ms, more than {LIMITS_MS[name]} ms")
    raise typer.Exit(1 if broken or arrays else 0)


def allocated(pool: HostPool, tracks: Sequence[Track], steps: int) -> int:
    """The most that the steps of pictures add to what Python and NumPy hold, in bytes."""
    slots = [pool.join(track) for track in tracks]
    pool.step()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(steps - 1):
            pool.step()
        return max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
        for slot in slots:
            pool.leave(slot)


if __name__ == "__main__":
    typer.run(main)
