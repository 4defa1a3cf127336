"""What other tools call things: schedulers and parameters by their names, and the error of a name that nothing has.

Must not import numpy or Pillow.
"""

import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches

from pixrt.errors import OptionError
from pixrt.options.choices import SCHEDULERS

# Keys as `_plain` writes them: AUTOMATIC1111's, k-diffusion's and ComfyUI's names, and diffusers' classes.
_SCHEDULERS: Mapping[str, str] = {
    "euler_a": "euler_ancestral",
    "k_euler": "euler",
    "k_euler_a": "euler_ancestral",
    "k_euler_ancestral": "euler_ancestral",
    "plms": "pndm",
    "uni_pc": "unipc",
    "ddimscheduler": "ddim",
    "ddpmscheduler": "ddpm",
    "dpmsolvermultistepscheduler": "dpmpp_2m",
    "eulerancestraldiscretescheduler": "euler_ancestral",
    "eulerdiscretescheduler": "euler",
    "lcmscheduler": "lcm",
    "pndmscheduler": "pndm",
    "unipcmultistepscheduler": "unipc",
}
_PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(("num_inference_steps", "inference_steps", "num_steps", "sampling_steps"), "steps"),
    **dict.fromkeys(("cfg", "cfg_scale", "cfg_text", "text_cfg_scale"), "guidance_scale"),
    **dict.fromkeys(("cfg_image", "image_cfg_scale"), "image_guidance_scale"),
    **dict.fromkeys(("sampler", "sampler_name", "sampling_method"), "scheduler"),
    **dict.fromkeys(("denoise", "denoising_strength"), "strength"),
    "generator": "seed",
    "mask_image": "mask",
    "style_image": "style",
}


def choose(value: str, choices: Collection[str]) -> str | None:
    """The choice that a name means; None for none. Schedulers may have other tools' names ("DPM++ 2M Karras")."""
    if value in choices:
        return value
    name = _SCHEDULERS.get(_plain(value), _plain(value))
    return name if name in SCHEDULERS and name in choices else None


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that is most like another one; "" if none is much like it."""
    return next(iter(get_close_matches(_plain(name), known, 1)), "")


def unknown_option(
    name: str, known: Collection[str], *, task: str = "", spelled: Callable[[str], str] = str
) -> OptionError:
    """The error of a parameter that is not among the known: what it is called here, and which tasks have it.

    `spelled` is how a name is written where it was given, such as a flag.
    """
    from pixrt.options.fields import option_fields
    from pixrt.options.tasks import TASK_OPTIONS

    meant = _PARAMETERS.get(name, name)
    having = [other for other, options in TASK_OPTIONS.items() if meant in option_fields(options)]
    if meant in known:
        remedy = f"Here it is {spelled(meant)}"
    elif having and task:
        remedy = f"Of the tasks {', '.join(having)} have it"
        if name == "strength" and "image_guidance_scale" in known:
            remedy = f"How strongly the picture is kept is {spelled('image_guidance_scale')}. {remedy}"
    else:
        near = nearest(name, known)
        remedy = f"Known are {', '.join(map(spelled, known))}{f'; the nearest is {spelled(near)}' if near else ''}"
    has = f"{task} has no parameter" if task else "there is no option"
    return OptionError(f"{has} {spelled(name)!r:.60}", remedy=remedy, option=name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name[:100].lower().replace("++", "pp")).strip("_")
