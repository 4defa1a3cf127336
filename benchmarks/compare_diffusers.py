"""The same edit with diffusers and with pixrt: seconds and peak memory, alternating in one run.

    python benchmarks/make_checkpoint.py CHECKPOINT
    pixrt export CHECKPOINT -o BUNDLE --precision fp16-weights
    python benchmarks/compare_diffusers.py CHECKPOINT BUNDLE...

Every side is a process of its own that loads once; then they edit in turn, one at a time. Each edit has a new picture,
so that nothing but the instruction is remembered from the one before. Peak memory is the resident set's high-water mark
that the operating system kept for the process, loading included.
"""

import functools
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

INSTRUCTION = "make it winter"
GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE = 7.5, 1.5
Edit = Callable[[Image.Image], Any]


def open_diffusers(checkpoint: Path, *, steps: int, threads: int) -> Edit:
    import diffusers
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        checkpoint, torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return lambda picture: pipeline(
        INSTRUCTION,
        image=picture,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE_SCALE,
        image_guidance_scale=IMAGE_GUIDANCE_SCALE,
    )


def open_pixrt(bundle: Path, *, low_memory: bool, size: int, steps: int, threads: int) -> Edit:
    from pixrt import Editor

    editor = Editor(bundle, backend="ort-cpu", threads=threads, low_memory=low_memory)
    return lambda picture: editor.edit(
        picture,
        INSTRUCTION,
        steps=steps,
        guidance_scale=GUIDANCE_SCALE,
        image_guidance_scale=IMAGE_GUIDANCE_SCALE,
        scheduler="euler_ancestral",
        resolution=size,
    )


def serve(connection: Connection, open_side: Callable[[], Edit]) -> None:
    """Load, then edit the pictures that come, answering with seconds and GiB."""
    edit = open_side()
    connection.send(None)
    while (picture := connection.recv()) is not None:
        start = time.perf_counter()
        edit(picture)
        seconds = time.perf_counter() - start
        connection.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A diffusers-format InstructPix2Pix folder.")],
    bundles: Annotated[list[Path], typer.Argument(help="Bundles that were exported from it.")],
    size: Annotated[int, typer.Option(help="Side of the picture in pixels.")] = 256,
    steps: Annotated[int, typer.Option(help="Steps of an edit.")] = 4,
    rounds: Annotated[int, typer.Option(help="Edits of each side, after one that warms up.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of each side.")] = 2,
) -> None:
    sides: dict[str, Callable[[], Edit]] = {
        "diffusers": functools.partial(open_diffusers, checkpoint, steps=steps, threads=threads)
    }
    for bundle in bundles:
        for low_memory in (False, True):
            sides[f"pixrt {bundle.name}{' low_memory' if low_memory else ''}"] = functools.partial(
                open_pixrt, bundle, low_memory=low_memory, size=size, steps=steps, threads=threads
            )
    context = multiprocessing.get_context("spawn")
    connections = {}
    for name, open_side in sides.items():
        connections[name], theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, open_side), daemon=True).start()
        connections[name].recv()

    generator = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peak_gib = dict.fromkeys(sides, 0.0)
    for number in range(rounds + 1):
        picture = Image.fromarray(generator.integers(0, 256, (size, size, 3), np.uint8))
        for name, connection in connections.items():
            connection.send(picture)
            took, peak_gib[name] = connection.recv()
            if number:
                seconds[name].append(took)
    for connection in connections.values():
        connection.send(None)

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("diffusers", "torch", "onnxruntime"))
    print(f"{platform.machine()}, {threads} threads, Python {platform.python_version()}, {versions}")
    print(f"{size} px, {steps} steps of Euler ancestral, 3 branches; {rounds} edits of each side in turn, after 1")
    reference, reference_gib = statistics.median(seconds["diffusers"]), peak_gib["diffusers"]
    for name, values in seconds.items():
        middle = statistics.median(values)
        pairs = sorted(a / b for a, b in zip(seconds["diffusers"], values, strict=True))
        print(
            f"{name:32} median {middle:6.2f} s (min {min(values):.2f}, max {max(values):.2f}), peak"
            f" {peak_gib[name]:.2f} GiB: {reference / middle:.2f}x as fast (round by round {pairs[0]:.2f} to"
            f" {pairs[-1]:.2f}), {peak_gib[name] / reference_gib:.2f}x the memory"
        )


if __name__ == "__main__":
    typer.run(main)
