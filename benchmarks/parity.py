"""Parity with diffusers: the same weights, the same noise, latents compared after every step, then the pictures.

    python benchmarks/parity.py CHECKPOINT BUNDLE

prints the worst deviation per scheduler over steps x sizes x batches x scales. `compare` does one case and is what the
tests call.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import diffusers
import numpy as np
import torch
import typer
from PIL import Image

from oracle import DIFFUSERS, by_step, noise_of
from pixrt.editor.editor import Editor
from pixrt.options.choices import SCHEDULERS

STEPS = (1, 2, 7, 20, 50)
BATCHES = (1, 3)
SCALES = ((7.5, 1.5), (7.5, 1.0), (1.0, 1.0), (3.0, 3.0))
LATENTS_TOLERANCE = 1e-3  # relative to the largest latent of the step
PICTURE_TOLERANCE = 1  # of 255


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison; `size` is width and height in pixels."""

    scheduler: str
    steps: int
    size: tuple[int, int]
    batch: int
    scales: tuple[float, float]
    eta: float = 0.0


@dataclasses.dataclass(frozen=True)
class Deviation:
    """The worst latents over all steps, relative to the step's largest, and the worst pixel of 255."""

    latents: float
    picture: int


def load_pipeline(checkpoint: Path) -> Any:
    """diffusers' pipeline in FP32, without the parts that pictures of noise would upset."""
    torch.set_grad_enabled(False)
    diffusers.logging.set_verbosity_error()
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        checkpoint, torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pictures(size: tuple[int, int], count: int) -> list[Image.Image]:
    """Smooth coloured pictures, different from each other."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    waves = [np.stack([np.sin(5 * x + k), np.cos(4 * y * (k + 1)), np.sin(3 * (x + y) + k)], -1) for k in range(count)]
    return [Image.fromarray(np.uint8(127.5 + 127 * wave)) for wave in waves]


INSTRUCTIONS = ("make the background blue", "turn the circle into a star", "invert the colors")


def compare(
    pipeline: Any,
    editor: Editor,
    case: Case,
    *,
    images: list[Image.Image] | None = None,
    texts: list[str] | None = None,
) -> Deviation:
    """Run one case on both sides with the same noise, on pictures of its size where none are given."""
    images, texts = images or pictures(case.size, case.batch), texts or list(INSTRUCTIONS[: case.batch])
    seeds = [100 + i for i in range(case.batch)]
    ours: list[np.ndarray[Any, Any]] = []
    results = editor.edit(
        images,
        texts,
        steps=case.steps,
        guidance_scale=case.scales[0],
        image_guidance_scale=case.scales[1],
        scheduler=case.scheduler,  # type: ignore[arg-type]
        eta=case.eta,
        seed=seeds,
        resize="floor8",
        on_step=lambda info: ours.append(info.latents),
    )
    ours = by_step(ours, case.batch)
    scale = editor.manifest.latents.scale
    shape = (editor.manifest.latents.channels, case.size[1] // scale, case.size[0] // scale)
    noise = torch.from_numpy(noise_of(seeds, 1 + len(ours), shape))
    theirs: list[np.ndarray[Any, Any]] = []

    def keep(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        theirs.append(values["latents"].numpy().copy())
        return values

    name, settings = DIFFUSERS[case.scheduler]
    own = pipeline.scheduler
    pipeline.scheduler = getattr(diffusers, name).from_config(own.config, **settings)
    try:
        with draws(type(pipeline.scheduler), iter(noise[1:])):
            output = pipeline(
                texts,
                image=images,
                num_inference_steps=case.steps,
                guidance_scale=case.scales[0],
                image_guidance_scale=case.scales[1],
                eta=case.eta,
                latents=noise[0].clone(),
                callback_on_step_end=keep,
            )
    finally:
        pipeline.scheduler = own
    if len(ours) != len(theirs):
        raise AssertionError(f"{len(ours)} steps here, {len(theirs)} in diffusers")
    latents = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))
    pixels = max(
        int(np.abs(np.int16(result.image) - np.int16(image)).max())
        for result, image in zip(results, output.images, strict=True)
    )
    return Deviation(latents, pixels)


@contextlib.contextmanager
def draws(scheduler: type, noise: Iterator[torch.Tensor]) -> Iterator[None]:
    """Hand a scheduler our draws, in order, instead of its own."""
    module = scheduler.__module__
    if not hasattr(__import__(module, fromlist=["x"]), "randn_tensor"):
        yield
        return
    with mock.patch(f"{module}.randn_tensor", side_effect=noise):
        yield


def cases(native: int, multiple: int, counts: Sequence[int]) -> Iterator[Case]:
    """The full matrix: a square and a non-square size."""
    sizes = ((native, native), (native + 2 * multiple, native))
    for scheduler, steps, size, batch, scales in itertools.product(SCHEDULERS, counts, sizes, BATCHES, SCALES):
        yield Case(scheduler, steps, size, batch, scales)


def report(checkpoint: str, what: str, worst: Mapping[str, Sequence[Deviation]]) -> int:
    """Print the worst deviation of each `what`; 1 where one is beyond the tolerance, else 0."""
    print(f"{checkpoint} against diffusers {diffusers.__version__}, torch {torch.__version__}")
    print(f"{what:18}{'cases':>6}{'latents, relative':>20}{'picture, of 255':>18}")
    failed = False
    for name, deviations in worst.items():
        latents, picture = max(d.latents for d in deviations), max(d.picture for d in deviations)
        failed |= latents > LATENTS_TOLERANCE or picture > PICTURE_TOLERANCE
        print(f"{name:18}{len(deviations):6}{latents:20.1e}{picture:18}")
    verdict = "FAILED" if failed else "passed"
    print(f"tolerance: latents {LATENTS_TOLERANCE}, picture {PICTURE_TOLERANCE}/255: {verdict}")
    return int(failed)


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A diffusers-format InstructPix2Pix folder.")],
    bundle: Annotated[Path, typer.Argument(help="Its FP32 bundle.")],
    size: Annotated[int, typer.Option(help="Side in pixels; the native resolution by default.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of both sides.")] = 2,
    steps: Annotated[list[int] | None, typer.Option(help="Only these step counts; may be repeated.")] = None,
) -> None:
    torch.set_num_threads(threads)
    pipeline, editor = load_pipeline(checkpoint), Editor(bundle, backend="ort-cpu", threads=threads)
    worst: dict[str, list[Deviation]] = {name: [] for name in SCHEDULERS}
    for case in cases(size or editor.manifest.native_resolution, editor.manifest.size_multiple, steps or STEPS):
        worst[case.scheduler].append(compare(pipeline, editor, case))
    raise typer.Exit(report(checkpoint.name, "scheduler", worst))


if __name__ == "__main__":
    typer.run(main)
