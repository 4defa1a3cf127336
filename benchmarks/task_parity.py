"""Parity of text-to-image, img2img and inpainting with diffusers: same weights and noise, latents after every step.

    python benchmarks/task_parity.py CHECKPOINT BUNDLE

prints the worst deviation per task over schedulers x steps x sizes x batches x strengths, for the tasks that the
checkpoint's UNet can do: 4 and 9 input channels, and 8, of which 4 are zeros. `compare` does one case and is what the
tests call. diffusers draws img2img's and inpainting's source latents from the encoder's distribution; here it takes
their mean, as pixrt does.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import diffusers
import numpy as np
import torch
import typer
from diffusers.configuration_utils import FrozenDict
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from oracle import DIFFUSERS, by_step, noise_of
from parity import Deviation, draws, load_pipeline, pictures, report
from pixrt.editor.editor import Editor
from pixrt.options.choices import SCHEDULERS

PIPELINES = {
    "generate": "StableDiffusionPipeline",
    "img2img": "StableDiffusionImg2ImgPipeline",
    "inpaint": "StableDiffusionInpaintPipeline",
}
TASKS_OF = {4: ("generate", "img2img", "inpaint"), 8: ("generate", "img2img", "inpaint"), 9: ("inpaint",)}
PROMPTS = ("a red circle on a blue background", "two green squares", "a yellow star")
STEPS = (1, 7, 20)
STRENGTHS = (0.3, 0.75, 1.0)
BATCHES = (1, 3)
GUIDANCE = 7.5


@dataclasses.dataclass(frozen=True)
class TaskCase:
    """One comparison; `size` is width and height in pixels."""

    task: str
    scheduler: str
    steps: int
    size: tuple[int, int]
    batch: int = 1
    strength: float = 1.0
    scale: float = GUIDANCE


def masks(size: tuple[int, int], count: int, block: int) -> list[Image.Image]:
    """White rectangles, different from each other, with borders between blocks of latents."""
    width, height = size
    made = []
    for number in range(count):
        mask = np.zeros((height, width), np.uint8)
        left = block * (1 + number)
        mask[block * 2 : height - block * (1 + number), left : left + width // 2 // block * block] = 255
        made.append(Image.fromarray(mask))
    return made


def compare(components: Any, editor: Editor, case: TaskCase) -> Deviation:
    """Run one case on both sides with the same noise. `components` are those of a loaded diffusers pipeline."""
    seeds = [100 + i for i in range(case.batch)]
    images, texts = pictures(case.size, case.batch), list(PROMPTS[: case.batch])
    white = masks(case.size, case.batch, editor.manifest.latents.scale)
    ours: list[np.ndarray[Any, Any]] = []
    common: dict[str, Any] = {"steps": case.steps, "guidance_scale": case.scale, "scheduler": case.scheduler}
    common |= {"seed": seeds, "on_step": lambda info: ours.append(info.latents)}
    if case.task == "generate":
        results = editor.generate(texts, width=case.size[0], height=case.size[1], **common)
    elif case.task == "img2img":
        results = editor.img2img(images, texts, resize="floor8", strength=case.strength, **common)
    else:
        common |= {"resolution": max(case.size), "strength": case.strength}
        results = editor.inpaint(images, white, texts, **common)
    ours = by_step(ours, case.batch)
    theirs, output = _diffusers(components, editor, case, images, texts, white, len(ours))
    if len(ours) != len(theirs):
        raise AssertionError(f"{len(ours)} steps here, {len(theirs)} in diffusers")
    latents = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))
    worst = 0
    for result, image, mask in zip(results, output, white, strict=True):
        difference = np.abs(np.int16(result.image) - np.int16(image))
        if case.task == "inpaint":  # diffusers returns its own decoding of what is outside; the edge fades here
            difference = difference[inner(mask)]
        worst = max(worst, int(difference.max()))
    return Deviation(latents, worst)


def inner(mask: Image.Image) -> np.ndarray[Any, Any]:
    """The pixels of a mask that are more than the default blur inside."""
    white = np.pad(np.asarray(mask) > 0, 5, mode="edge")
    height, width = mask.height, mask.width
    shifts = itertools.product(range(11), range(11))
    return np.logical_and.reduce([white[y : y + height, x : x + width] for y, x in shifts])


def _diffusers(
    components: Any,
    editor: Editor,
    case: TaskCase,
    images: list[Image.Image],
    texts: list[str],
    white: list[Image.Image],
    calls: int,
) -> tuple[list[np.ndarray[Any, Any]], list[Image.Image]]:
    scale = editor.manifest.latents.scale
    shape = (editor.manifest.latents.channels, case.size[1] // scale, case.size[0] // scale)
    seeds = [100 + i for i in range(case.batch)]
    noise = torch.from_numpy(noise_of(seeds, 1 + calls, shape))
    theirs: list[np.ndarray[Any, Any]] = []

    def keep(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        theirs.append(values["latents"].numpy().copy())
        return values

    name, settings = DIFFUSERS[case.scheduler]
    scheduler = getattr(diffusers, name).from_config(components["scheduler"].config, **settings)
    pipeline = getattr(diffusers, PIPELINES[case.task])(
        **{**components, "scheduler": scheduler}, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    if pipeline.unet.config["in_channels"] == 2 * shape[0]:
        pipeline.unet = _WithoutSource(pipeline.unet)
    given: dict[str, Any] = {"num_inference_steps": case.steps, "guidance_scale": case.scale}
    given |= {"callback_on_step_end": keep}
    if case.task == "generate":
        given |= {"width": case.size[0], "height": case.size[1], "latents": noise[0].clone()}
    else:
        given |= {"image": images, "strength": case.strength}
    if case.task == "inpaint":
        given |= {"mask_image": white, "width": case.size[0], "height": case.size[1]}
    with contextlib.ExitStack() as stack:
        stack.enter_context(draws(type(scheduler), iter(noise[1:])))
        if case.task != "generate":
            module = type(pipeline).__module__
            stack.enter_context(mock.patch(f"{module}.randn_tensor", return_value=noise[0].clone()))
            mean = lambda self, generator=None: self.mode()  # noqa: E731
            stack.enter_context(mock.patch.object(DiagonalGaussianDistribution, "sample", mean))
        if case.scheduler == "pndm":
            stack.enter_context(_whole_first_step(pipeline))
        return theirs, pipeline(texts, **given).images


class _WithoutSource(torch.nn.Module):
    """An edit checkpoint's UNet as text-to-image sees it: source latents of zero beside the noisy ones."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        config = {**unet.config, "in_channels": unet.config["in_channels"] // 2}
        self.unet, self.config, self.dtype = unet, FrozenDict(config), unet.dtype

    def forward(self, sample: Any, *args: Any, **more: Any) -> Any:
        return self.unet(torch.cat([sample, torch.zeros_like(sample)], 1), *args, **more)


@contextlib.contextmanager
def _whole_first_step(pipeline: Any) -> Iterator[None]:
    """PNDM calls the network twice for its first step, and so says its list of timesteps: first, second, second, third.

    img2img cuts from that list what comes before its start, and the second call is missing: the third then begins where
    the second should have, one step too early. Here the list is made anew from its start.
    """

    def timesteps(num_inference_steps: int, strength: float, device: Any) -> tuple[Any, int]:
        steps = num_inference_steps
        every = pipeline.scheduler.timesteps
        single = torch.cat([every[:1], every[2:]]) if steps > 1 else every
        start = steps - min(int(steps * strength), steps)
        rest = single[start:]
        return (torch.cat([rest[:1], rest[1:2], rest[1:]]) if len(rest) > 1 else rest), steps - start

    if not hasattr(pipeline, "get_timesteps"):
        yield
        return
    with mock.patch.object(pipeline, "get_timesteps", timesteps):
        yield


def cases(tasks: tuple[str, ...], native: int, multiple: int) -> Iterator[TaskCase]:
    """The full matrix: a square and a non-square size, where a strength leaves a step."""
    sizes = ((native, native), (native + 2 * multiple, native))
    for task, scheduler, steps, size, batch in itertools.product(tasks, SCHEDULERS, STEPS, sizes, BATCHES):
        for strength in STRENGTHS if task != "generate" else (1.0,):
            if int(steps * strength):
                yield TaskCase(task, scheduler, steps, size, batch, strength)


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A diffusers-format folder with 4, 8 or 9 UNet channels.")],
    bundle: Annotated[Path, typer.Argument(help="Its FP32 bundle.")],
    threads: Annotated[int, typer.Option(help="Threads of both sides.")] = 2,
) -> None:
    torch.set_num_threads(threads)
    components, editor = load_pipeline(checkpoint).components, Editor(bundle, backend="ort-cpu", threads=threads)
    manifest = editor.manifest
    worst: dict[str, list[Deviation]] = {}
    for case in cases(TASKS_OF[manifest.unet_in_channels], manifest.native_resolution, manifest.size_multiple):
        worst.setdefault(case.task, []).append(compare(components, editor, case))
    raise typer.Exit(report(checkpoint.name, "task", worst))


if __name__ == "__main__":
    typer.run(main)
