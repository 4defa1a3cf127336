"""Every task by the class of its options, and whether a bundle can do it. Must not import a backend.

task      bundle's UNet channels   takes                 noise only at first    held after each step
edit      8                        image, mask?          yes                    the image outside the mask
generate  4, 8 (source zero)                             yes
img2img   4, 8 (source zero)       image                 no: the image
inpaint   9, 4, 8 (source zero)    image, mask           if strength is 1       4, 8: the image outside the mask
style     4, 8                     image, style          no: the image          the image in the style
"""

from collections.abc import Callable

from pixrt.bundles.manifest import NETWORKS, Component, Manifest
from pixrt.bundles.manifest import Task as BundleTask
from pixrt.core.conditioning import Conditioning
from pixrt.errors import OptionError
from pixrt.options.tasks import EditOptions, GenerateOptions, Img2ImgOptions, InpaintOptions, Options, StyleOptions
from pixrt.tasks.edit import EDIT
from pixrt.tasks.generate import GENERATE
from pixrt.tasks.img2img import IMG2IMG
from pixrt.tasks.inpaint import INPAINT
from pixrt.tasks.jobs import Job
from pixrt.tasks.style import STYLE
from pixrt.tasks.task import Task, TaskInputs

TASKS: dict[type[Options], Task] = {
    EditOptions: EDIT,
    GenerateOptions: GENERATE,
    Img2ImgOptions: IMG2IMG,
    InpaintOptions: INPAINT,
    StyleOptions: STYLE,
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
_ADVICE = {
    ("edit", "generate"): ", such as InstructPix2Pix",
    ("edit", "inpaint"): ", such as InstructPix2Pix",
}


def condition(given: TaskInputs) -> Conditioning:
    """What a picture is conditioned on, by the task of its options."""
    return TASKS[type(given.options)].condition(given)


def require(job: Job, manifest: Manifest, has_loras: bool) -> None:
    """Raise OptionError unless a bundle's network can do a job's task, and the job has the pictures it takes.

    `has_loras`: it runs with some.
    """
    options, task = job.options, TASKS.get(type(job.options))
    if task is None:
        kinds = ", ".join(kind.__name__ for kind in TASKS)
        raise OptionError(f"a job's options are {type(options).__name__}", remedy=f"Pass one of {kinds}")
    distilled = manifest.source.loras or has_loras or manifest.defaults.scheduler == "lcm"
    if options.preset == "lcm" and not distilled:
        raise OptionError(
            f"the preset lcm takes 4 steps of a network distilled for them, and {manifest.name!r} has no LoRA",
            remedy="Give an LCM-LoRA with --lora, or export with one; or take the preset turbo",
            option="preset",
        )
    if (options.cache_interval or 1) > 1 and Component.UNET_SHALLOW not in manifest.components:
        raise OptionError(
            f"cache_interval is {options.cache_interval}, and the bundle {manifest.name!r} has no shallow network",
            remedy="Leave it out, or export the checkpoint with `pixrt export --deep-cache`",
            option="cache_interval",
        )
    for component in NETWORKS:
        if component is not Component.VAE_ENCODER or options.needs:
            manifest.component(component)
    if manifest.task not in task.bundles:
        latents = manifest.latents.channels
        fitting = " or ".join(str(_CHANNELS[kind](latents)) for kind in task.bundles)
        raise OptionError(
            f"the bundle {manifest.name!r} cannot {options.task}: {_SEES[manifest.task]},"
            f" {manifest.unet_in_channels} input channels of {latents}-channel latents",
            remedy=f"Use a bundle with {fitting} input channels{_ADVICE.get((options.task, manifest.task), '')}",
            option="task",
        )
    given = {name for name in ("image", "mask", "style") if getattr(job, name) is not None}
    for name in sorted(options.needs - given):
        raise OptionError(f"there is no {name}, and {options.task} takes one", remedy=f"Give the {name}", option=name)
    for name in sorted(given - options.needs - options.may_have):
        raise OptionError(
            f"there is a {name}, and {options.task} takes none", remedy=f"Leave the {name} out", option=name
        )
