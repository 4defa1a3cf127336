"""One picture before and after the loop: prepared and encoded into a track; decoded and finished into a result.

Must not import a backend.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixrt.bundles.manifest import EmbeddingSpec, LoraSpec, Manifest
from pixrt.core.conditioning import Latents
from pixrt.core.networks import Networks
from pixrt.core.timing import Stopwatch
from pixrt.core.track import Steps, Track, make_track
from pixrt.core.windows import Work
from pixrt.editor.result import EditResult
from pixrt.pictures.detail import carry
from pixrt.pictures.images import from_network, with_alpha
from pixrt.pictures.inputs import Prepared, Styles
from pixrt.pictures.masks import paste
from pixrt.tasks.registry import condition
from pixrt.tasks.requests import Request
from pixrt.tasks.task import TaskInputs

if TYPE_CHECKING:
    from PIL import Image


@dataclass(slots=True, eq=False)
class Making:
    """A picture on its way: how it will run, what it was made of, and where its time went.

    `generation` is of the weights that it was encoded with: see `Networks`.
    """

    request: Request
    steps: Steps
    work: Work
    generation: int
    clock: Stopwatch = field(default_factory=Stopwatch)
    prepared: Prepared = field(default_factory=Prepared)
    done: int = 0

    @property
    def rows(self) -> int:
        """Network evaluations of its next step."""
        return len(self.steps.branches[self.done])


def encode(making: Making, networks: Networks, manifest: Manifest, styles: Styles) -> Track:
    """Decode and encode a picture and its texts. Raises PictureError, PixrtError."""
    request, clock, encoders = making.request, making.clock, networks.encoders
    with clock.stage("prepare"):
        making.prepared = prepared = request.prepare(manifest, styles)
    null_text = encoders.text(request.negative_tokens, clock)
    text = encoders.text(request.tokens, clock)
    with clock.stage("prepare"):
        given = TaskInputs(
            options=request.options,
            manifest=manifest,
            family=networks.family,
            encode=lambda pixels: encoders.source(pixels, clock, prepared.origin if pixels is prepared.pixels else b""),
            text=text,
            null_text=null_text,
            pixels=prepared.pixels,
            mask=prepared.mask,
            style=prepared.style,
        )
        conditioning = condition(given)
    with clock.stage("denoise"):
        shape = networks.family.latents_shape(request.geometry.padded)
        return make_track(making.steps, request.seed, conditioning, shape)


def finish(
    making: Making,
    latents: Latents,
    networks: Networks,
    manifest: Manifest,
    backend: str,
    loras: tuple[LoraSpec, ...],
    embeddings: tuple[EmbeddingSpec, ...],
) -> EditResult:
    """Decode a picture's last state. Raises PixrtError for one that is not finite."""
    request, clock, prepared, work = making.request, making.clock, making.prepared, making.work
    pixels, second_try = networks.encoders.decode(latents, clock)
    with clock.stage("finish"):
        image = _finish(pixels, prepared, request)
    return EditResult(
        index=request.index,
        image=image,
        instruction=request.job.text,
        options=request.options,
        dropped_tokens=request.tokens.dropped,
        dropped_negative_tokens=request.negative_tokens.dropped,
        unknown_instruction=not (loras or embeddings) and manifest.is_unknown(request.job.text),
        working_size=request.geometry.padded,
        network_rows=making.steps.evaluations * work.tiling.count,
        shallow_rows=making.steps.shallow_evaluations * work.tiling.count,
        times=clock.times(),
        expected_ms=request.expected_ms,
        backend=backend,
        model=manifest.name,
        model_sha256=manifest.source.sha256,
        precision=manifest.precision,
        notice=manifest.notice,
        loras=loras,
        embeddings=embeddings,
        decoded_in_fp32=second_try,
        tile=work.tile,
        inputs_sha256=prepared.sha256,
        facts=prepared.facts,
    )


def _finish(pixels: NDArray[np.float32], prepared: Prepared, request: Request) -> "Image.Image":
    """The result: with a mask over the original, which stays as it is outside the mask, else by itself."""
    from PIL import Image

    geometry = request.geometry
    if prepared.full is None or prepared.pixels is None:
        image = from_network(pixels, geometry)
    else:
        width, height = geometry.scaled
        small = [planes[:, :height, :width] for planes in (prepared.pixels, pixels)]
        image = Image.fromarray(carry(prepared.full, small[0], np.clip(small[1], -1, 1)))
    if prepared.under is None or prepared.opacity is None:
        return with_alpha(image, prepared.alpha, geometry)
    left, top, right, bottom = map(int, geometry.crop)
    box = left, top, right, bottom
    rgb, alpha = paste(prepared.under, np.asarray(image), box, prepared.opacity, prepared.alpha)
    pasted = Image.fromarray(rgb)
    if alpha is not None:
        pasted.putalpha(Image.fromarray(alpha))
    return pasted
