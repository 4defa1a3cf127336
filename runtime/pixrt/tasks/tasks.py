"""A task turns requests into what the loop is conditioned on, and nothing more. Must not import a backend.

task      bundle's UNet channels   takes                 noise alone at first   held after each step
edit      8                        image, mask?          yes                    the image outside the mask
generate  4, 8 (source zero)                             yes
img2img   4                        image                 no: the image
inpaint   9, 4                     image, mask           where strength is 1    4: the image outside the mask
style     4, 8                     image, style          no: the image          the image in the style
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.bundles.manifest import NETWORKS, Component, LoraSpec, Manifest
from pixrt.bundles.manifest import Task as BundleTask
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.errors import OptionError
from pixrt.maths.guidance import Branch
from pixrt.maths.style import stylize
from pixrt.options.tasks import EditOptions, GenerateOptions, Img2ImgOptions, InpaintOptions, Options, StyleOptions
from pixrt.pictures.masks import Mask, to_latents
from pixrt.tasks.jobs import Job

Encode = Callable[[NDArray[np.float32]], Array]
"""Pixels `[3, H, W]` in [-1, 1] to the posterior mean `[C, h, w]`, unscaled."""


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """What a task conditions one picture on.

    Attributes:
        text, null_text: embeddings `[L, D]` of the text and of the negative prompt.
        pixels, style: working pictures `[3, H, W]` in [-1, 1], where the task takes them.
        mask: `[H, W]`, which of the working picture's pixels may change.
    """

    options: Options
    text: Array
    null_text: Array
    pixels: NDArray[np.float32] | None
    mask: Mask | None
    style: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Task:
    """One of them: the bundles that it runs with, the pictures that it must and may have, and its conditioning."""

    name: str
    bundles: tuple[BundleTask, ...]
    needs: frozenset[str]
    may_have: frozenset[str]
    condition: Callable[[Sequence[TaskInputs], Encode, Manifest], Conditioning]


def condition(inputs: Sequence[TaskInputs], encode: Encode, manifest: Manifest) -> Conditioning:
    """The conditioning of pictures of one task."""
    return TASKS[type(inputs[0].options)].condition(inputs, encode, manifest)


def require(job: Job, manifest: Manifest, loras: Sequence[LoraSpec]) -> None:
    """Raise OptionError unless a bundle's network can do a job's task, and the job has the pictures it takes.

    `loras` are those in use at run time.
    """
    task = TASKS.get(type(job.options))
    if task is None:
        kinds = ", ".join(kind.__name__ for kind in TASKS)
        raise OptionError(f"a job's options are {type(job.options).__name__}", remedy=f"Pass one of {kinds}")
    distilled = manifest.source.loras or loras or manifest.defaults.scheduler == "lcm"
    if job.options.preset == "turbo" and not distilled:
        raise OptionError(
            f"the preset turbo takes 4 steps of a network distilled for them, and {manifest.name!r} has no LoRA",
            remedy="Give an LCM-LoRA with --lora, or export with one; or say --scheduler lcm --steps 4 yourself",
        )
    for component in NETWORKS:
        if component is not Component.VAE_ENCODER or task.needs:
            manifest.component(component)
    if manifest.task not in task.bundles:
        latents = manifest.latent_channels
        fitting = " or ".join(str(_CHANNELS[kind](latents)) for kind in task.bundles)
        raise OptionError(
            f"the bundle {manifest.name!r} cannot {task.name}: {_SEES[manifest.task]},"
            f" {manifest.unet_in_channels} input channels of {latents}-channel latents",
            remedy=f"Use a bundle with {fitting} input channels{_ADVICE.get((task.name, manifest.task), '')}",
        )
    given = {name for name in ("image", "mask", "style") if getattr(job, name) is not None}
    for name in sorted(task.needs - given):
        raise OptionError(f"there is no {name}, and {task.name} takes one", remedy=f"Give the {name}")
    for name in sorted(given - task.needs - task.may_have):
        raise OptionError(f"there is a {name}, and {task.name} takes none", remedy=f"Leave the {name} out")


def edit_conditioning(texts: Sequence[Array], null_text: Array, sources: Sequence[Array]) -> Conditioning:
    """An instruction edit: B embeddings `[L, D]`, that of the negative prompt, and B source latents `[C, h, w]`."""
    return Conditioning(_contexts(texts, [null_text] * len(texts)), _beside_text_and_null(sources))


def _edit(inputs: Sequence[TaskInputs], encode: Encode, manifest: Manifest) -> Conditioning:
    sources = [encode(_pixels(each)) for each in inputs]
    return Conditioning(_texts(inputs), _beside_text_and_null(sources), anchors=_outside(inputs, sources, manifest))


def _generate(inputs: Sequence[TaskInputs], encode: Encode, manifest: Manifest) -> Conditioning:
    return Conditioning(_texts(inputs))


def _img2img(inputs: Sequence[TaskInputs], encode: Encode, manifest: Manifest) -> Conditioning:
    return Conditioning(_texts(inputs), initial=[_scaled(encode(_pixels(each)), manifest) for each in inputs])


def _inpaint(inputs: Sequence[TaskInputs], encode: Encode, manifest: Manifest) -> Conditioning:
    """A network made for it sees the mask and the picture without what the mask covers; for another one the rest of the
    picture is put back after every step (Lugmayr et al. 2022, arXiv:2201.09865, equation 8, without resampling).
    """
    starts_anew = not inputs[0].options.start
    sees_mask = manifest.task == "inpaint"
    sources = [] if starts_anew and sees_mask else [encode(_pixels(each)) for each in inputs]
    return Conditioning(
        _texts(inputs),
        _beside_text_and_null([_masked(each, encode, manifest) for each in inputs]) if sees_mask else {},
        initial=[] if starts_anew else [_scaled(source, manifest) for source in sources],
        anchors=[] if sees_mask else _outside(inputs, sources, manifest),
    )


def _style(inputs: Sequence[TaskInputs], encode: Encode, manifest: Manifest) -> Conditioning:
    """The content's latents are the beginning; each step in the window is steered to them in the style."""
    sources = [encode(_pixels(each)) for each in inputs]
    contents = [_scaled(source, manifest) for source in sources]
    targets = []
    for each, content in zip(inputs, contents, strict=True):
        options, style = each.options, each.style
        assert isinstance(options, StyleOptions)
        assert style is not None
        weight = options.style_weight / ((options.content_weight + options.style_weight) or 1.0)
        styled = stylize(content, _scaled(encode(style), manifest), options.style_patch)
        target = np.float32(1 - weight) * content + np.float32(weight) * styled
        targets.append(Anchor(target, np.ones((1, *target.shape[1:]), np.float32)))
    beside = _beside_text_and_null(sources) if manifest.task == "edit" else {}
    return Conditioning(_texts(inputs), beside, initial=contents, anchors=targets)


TASKS: dict[type[Options], Task] = {
    EditOptions: Task("edit", ("edit",), frozenset({"image"}), frozenset({"mask"}), _edit),
    GenerateOptions: Task("generate", ("generate", "edit"), frozenset(), frozenset(), _generate),
    Img2ImgOptions: Task("img2img", ("generate",), frozenset({"image"}), frozenset(), _img2img),
    InpaintOptions: Task("inpaint", ("inpaint", "generate"), frozenset({"image", "mask"}), frozenset(), _inpaint),
    StyleOptions: Task("style", ("generate", "edit"), frozenset({"image", "style"}), frozenset(), _style),
}
_CHANNELS: dict[BundleTask, Callable[[int], int]] = {
    "generate": lambda latents: latents,
    "edit": lambda latents: 2 * latents,
    "inpaint": lambda latents: 2 * latents + 1,
}
_SEES: dict[BundleTask, str] = {
    "generate": "its network sees noisy latents alone (text-to-image)",
    "edit": "its network wants a source picture beside them (instruction edits)",
    "inpaint": "its network wants a mask beside the source (inpainting)",
}
_WITHOUT_SOURCE = "; `pixrt export --without-source` makes one of 4 out of this one's checkpoint"
_ADVICE = {
    ("edit", "generate"): ", such as InstructPix2Pix",
    ("edit", "inpaint"): ", such as InstructPix2Pix",
    ("img2img", "edit"): _WITHOUT_SOURCE,
    ("inpaint", "edit"): _WITHOUT_SOURCE,
}


def _texts(inputs: Sequence[TaskInputs]) -> dict[Branch, Sequence[Array]]:
    return _contexts([each.text for each in inputs], [each.null_text for each in inputs])


def _contexts(texts: Sequence[Array], null_texts: Sequence[Array]) -> dict[Branch, Sequence[Array]]:
    return {Branch.TEXT: texts, Branch.IMAGE: null_texts, Branch.UNCOND: null_texts}


def _beside_text_and_null(sources: Sequence[Array]) -> dict[Branch, Sequence[Array]]:
    """What the network sees beside the latents; the unconditional branch sees nothing."""
    return {Branch.TEXT: sources, Branch.IMAGE: sources}


def _outside(inputs: Sequence[TaskInputs], sources: Sequence[Array], manifest: Manifest) -> list[Anchor]:
    """The pictures themselves, where their masks do not let them change; none without masks."""
    anchors = []
    for each, source in zip(inputs, sources, strict=True):
        if each.mask is not None:
            anchors.append(Anchor(_scaled(source, manifest), 1 - to_latents(each.mask, manifest.vae_scale)))
    return anchors


def _masked(each: TaskInputs, encode: Encode, manifest: Manifest) -> Array:
    """The mask's latents and those of the picture without what it covers, `[1 + C, h, w]`."""
    assert each.mask is not None
    kept = np.where(each.mask, np.float32(0), _pixels(each))
    return np.concatenate([to_latents(each.mask, manifest.vae_scale), _scaled(encode(kept), manifest)])


def _pixels(each: TaskInputs) -> NDArray[np.float32]:
    assert each.pixels is not None
    return each.pixels


def _scaled(source: Array, manifest: Manifest) -> NDArray[np.float32]:
    """Source latents as the loop has them."""
    return source.astype(np.float32) * np.float32(manifest.scaling_factor)
