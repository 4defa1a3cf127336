"""One batch through the stages of a task: pictures prepared, encoded, denoised, decoded, finished.

Must not import a backend.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.manifest import Component, Manifest
from pixrt.core.buffers import Latents
from pixrt.core.conditioning import Conditioning
from pixrt.core.networks import Networks
from pixrt.core.pipeline import LoopState, denoise
from pixrt.core.plan import Schedule
from pixrt.core.timing import Stopwatch
from pixrt.pictures.images import from_network, with_alpha
from pixrt.pictures.inputs import Prepared, Styles
from pixrt.pictures.masks import paste
from pixrt.tasks.requests import Request
from pixrt.tasks.tasks import TaskInputs, condition

if TYPE_CHECKING:
    from PIL import Image

AfterStep = Callable[[int, LoopState], None]
Made = tuple["Image.Image", Prepared, bool]
"""A picture, what it was made of, and whether it took the FP32 decoder."""


def run_batch(
    networks: Networks,
    batch: Sequence[Request],
    schedule: Schedule,
    manifest: Manifest,
    clock: Stopwatch,
    styles: Styles,
    after_step: AfterStep,
) -> list[Made]:
    """Make the pictures of requests with one `batch_key`. Raises PictureError, PixrtError."""
    with clock.stage("prepare"):
        given = [request.prepare(manifest, styles) for request in batch]
    conditioning = _encode(networks, batch, given, manifest, clock)
    with networks.stage(Component.UNET):
        latents = _denoise(networks, batch, schedule, conditioning, manifest, clock, after_step)
    with networks.stage(Component.VAE_DECODER):
        decoded = [networks.decode(item, clock) for item in latents]
    with clock.stage("finish"):
        return [
            (_finish(pixels, prepared, request), prepared, second_try)
            for (pixels, second_try), prepared, request in zip(decoded, given, batch, strict=True)
        ]


def _encode(
    networks: Networks, batch: Sequence[Request], given: Sequence[Prepared], manifest: Manifest, clock: Stopwatch
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
                pixels=each.pixels,
                mask=each.mask,
                style=each.style,
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


def _finish(pixels: NDArray[np.float32], prepared: Prepared, request: Request) -> "Image.Image":
    """The result: with a mask over the original, which stays as it is outside the mask, else alone."""
    from PIL import Image

    image, geometry = from_network(pixels, request.geometry), request.geometry
    if prepared.under is None or prepared.opacity is None:
        return with_alpha(image, prepared.alpha, geometry)
    left, top, right, bottom = map(int, geometry.crop)
    pasted = Image.fromarray(paste(prepared.under, np.asarray(image), (left, top, right, bottom), prepared.opacity))
    if prepared.alpha is not None:
        pasted.putalpha(Image.fromarray(prepared.alpha))
    return pasted
