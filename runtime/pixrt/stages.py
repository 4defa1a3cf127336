"""One batch through the stages of a task: pictures prepared, encoded, denoised, decoded, finished.

Must not import a backend.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixrt.buffers import Latents
from pixrt.conditioning import Conditioning
from pixrt.geometry import plan_geometry
from pixrt.images import Picture, from_network, to_network, with_alpha
from pixrt.masks import feather, paste, to_working
from pixrt.networks import Networks
from pixrt.pipeline import LoopState, denoise
from pixrt.plan import Schedule
from pixrt.requests import Inputs, Request
from pixrt.spec import Component, Manifest
from pixrt.tasks import TaskInputs, condition
from pixrt.timing import Stopwatch

if TYPE_CHECKING:
    from PIL import Image

AfterStep = Callable[[int, LoopState], None]
Made = tuple["Image.Image", bool]
"""A picture, and whether it took the FP32 decoder."""


def run_batch(
    networks: Networks,
    batch: Sequence[Request],
    schedule: Schedule,
    manifest: Manifest,
    clock: Stopwatch,
    after_step: AfterStep,
) -> list[Made]:
    """Make the pictures of requests with one `batch_key`. Raises PictureError, PixrtError."""
    with clock.stage("prepare"):
        given = [request.load() for request in batch]
    conditioning = _encode(networks, batch, given, manifest, clock)
    with networks.stage(Component.UNET):
        latents = _denoise(networks, batch, schedule, conditioning, manifest, clock, after_step)
    with networks.stage(Component.VAE_DECODER):
        decoded = [networks.decode(item, clock) for item in latents]
    with clock.stage("finish"):
        return [
            (_finish(pixels, inputs, request), second_try)
            for (pixels, second_try), inputs, request in zip(decoded, given, batch, strict=True)
        ]


def _encode(
    networks: Networks, batch: Sequence[Request], given: Sequence[Inputs], manifest: Manifest, clock: Stopwatch
) -> Conditioning:
    with networks.stage(Component.TEXT_ENCODER):
        nulls = [networks.text(request.negative_tokens.ids, clock) for request in batch]
        texts = [networks.text(request.tokens.ids, clock) for request in batch]
    with networks.stage(Component.VAE_ENCODER), clock.stage("prepare"):
        inputs = [
            TaskInputs(
                options=request.options,
                text=text,
                null_text=null,
                pixels=None if each.picture is None else to_network(each.picture, request.geometry),
                mask=None if each.mask is None else to_working(each.mask, request.geometry),
                style=None if each.style is None else _style_pixels(each.style, manifest),
            )
            for request, each, text, null in zip(batch, given, texts, nulls, strict=True)
        ]
        return condition(inputs, lambda pixels: networks.source(pixels, clock), manifest)


def _denoise(
    networks: Networks,
    batch: Sequence[Request],
    schedule: Schedule,
    conditioning: Conditioning,
    manifest: Manifest,
    clock: Stopwatch,
    after_step: AfterStep,
) -> Latents:
    """The loop. Its plan does not outlive it: with `low_memory` the network is closed after it."""
    seeds = [request.seed for request in batch]
    plan = networks.plan(schedule, seeds, latents_size(batch, manifest), conditioning, clock)
    with clock.stage("denoise"):
        for number, state in enumerate(denoise(plan), 1):
            after_step(number, state)
        return plan.latents()


def latents_size(batch: Sequence[Request], manifest: Manifest) -> tuple[int, int]:
    """Height and width of a batch's latents."""
    width, height = batch[0].geometry.padded
    return height // manifest.vae_scale, width // manifest.vae_scale


def _style_pixels(style: Picture, manifest: Manifest) -> NDArray[np.float32]:
    """A style's working picture: as large as the bundle's native resolution, whatever the content's is."""
    height, width = style.rgb.shape[:2]
    resolution, multiple = manifest.native_resolution, manifest.size_multiple
    return to_network(style, plan_geometry(width, height, "exact", resolution=resolution, multiple=multiple))


def _finish(pixels: NDArray[np.float32], inputs: Inputs, request: Request) -> "Image.Image":
    """The result: with a mask over the original, which stays as it is outside the mask, else alone."""
    image, geometry = from_network(pixels, request.geometry), request.geometry
    if inputs.picture is None:
        return image
    if inputs.mask is None:
        return with_alpha(image, inputs.picture.alpha, geometry)
    from PIL import Image

    opacity = feather(inputs.mask, getattr(request.options, "mask_blur", 0))
    left, top, right, bottom = map(int, geometry.crop)
    pasted = Image.fromarray(paste(inputs.picture.straight, np.asarray(image), (left, top, right, bottom), opacity))
    if inputs.picture.alpha is not None:
        pasted.putalpha(Image.fromarray(inputs.picture.alpha))
    return pasted
