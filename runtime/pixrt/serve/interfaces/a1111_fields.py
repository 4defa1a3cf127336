"""AUTOMATIC1111's fields of `txt2img` and `img2img` in pixrt's words. Knows no HTTP. Must not import numpy or Pillow.

What asks for something that is not done is refused by name; what asks for nothing (a field at its neutral value, or one
that has no effect beside the others) is taken.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixrt.options.choices import SCHEDULERS
from pixrt.pictures.a1111 import LORA, SAMPLER_NAMES, SAMPLERS
from pixrt.serve.problems import Problem

_ANY = object()  # a field that has no effect here, whatever it holds
_NOTHING: tuple[object, ...] = (None, "", 0, False)
_NEUTRAL: Mapping[str, Any] = {
    "styles": ([], None),
    "subseed_strength": _NOTHING,
    "seed_resize_from_h": (*_NOTHING, -1),
    "seed_resize_from_w": (*_NOTHING, -1),
    "restore_faces": _NOTHING,
    "tiling": _NOTHING,
    "s_min_uncond": _NOTHING,
    "s_churn": _NOTHING,
    "s_tmin": _NOTHING,
    "s_tmax": _NOTHING,
    "s_noise": (None, 1),
    "subseed": _ANY,
    "do_not_save_samples": _ANY,
    "do_not_save_grid": _ANY,
    "override_settings_restore_afterwards": _ANY,
    "script_name": _NOTHING,
    "script_args": ([], None),
    "alwayson_scripts": ({}, None),
    "send_images": (None, True),
    "save_images": _NOTHING,
    "refiner_checkpoint": _NOTHING,
    "refiner_switch_at": _ANY,
    "disable_extra_networks": _NOTHING,
    "comments": ({}, None),
    "force_task_id": _NOTHING,
    "infotext": _NOTHING,
    "firstpass_image": _NOTHING,
    "sampler_index": _ANY,
}
_NEUTRAL_TXT2IMG: Mapping[str, Any] = {
    "enable_hr": _NOTHING,
    "denoising_strength": _ANY,  # of the second pass, which enable_hr asks for
    "firstphase_width": _NOTHING,
    "firstphase_height": _NOTHING,
    "hr_scale": _ANY,
    "hr_upscaler": _ANY,
    "hr_second_pass_steps": _ANY,
    "hr_resize_x": _ANY,
    "hr_resize_y": _ANY,
    "hr_checkpoint_name": _ANY,
    "hr_sampler_name": _ANY,
    "hr_scheduler": _ANY,
    "hr_prompt": _ANY,
    "hr_negative_prompt": _ANY,
}
_NEUTRAL_IMG2IMG: Mapping[str, Any] = {
    "resize_mode": (None, 0),
    "initial_noise_multiplier": (None, 1),
    "include_init_images": _NOTHING,
    "latent_mask": _NOTHING,
}
# fmt: off
_READ = (
    "prompt", "negative_prompt", "seed", "sampler_name", "scheduler", "batch_size", "n_iter", "steps", "cfg_scale",
    "width", "height", "eta", "override_settings",
)
_READ_IMG2IMG = (
    "init_images", "denoising_strength", "image_cfg_scale", "mask", "mask_blur", "mask_blur_x", "mask_blur_y",
    "mask_round", "inpainting_fill", "inpaint_full_res", "inpaint_full_res_padding", "inpainting_mask_invert",
)
# fmt: on

_EDITS_STRENGTH = (None, 0.75, 1)  # A1111's default, and that which says what an edit does
_ORIGINAL = 1  # of inpainting_fill: begin with what is under the mask
# By which of A1111's fields a value of ours came.
THEIRS: Mapping[str, str] = {
    "guidance_scale": "cfg_scale",
    "image_guidance_scale": "image_cfg_scale",
    "strength": "denoising_strength",
    "mask_padding": "inpaint_full_res_padding",
    "text": "prompt",
    "image": "init_images",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request in pixrt's words. `values` are options of the task, yet to be parsed, `loras` are NAME:SCALE.

    `has_size`: the picture is brought to the request's width and height.
    """

    task: str
    text: str
    values: dict[str, object]
    loras: tuple[str, ...]
    has_size: bool = False
    image: str | None = None
    mask: str | None = None


def read_txt2img(body: Mapping[str, object], default_scheduler: str) -> Wanted:
    """A `txt2img` request. Raises Problem 400."""
    _refuse(body, {**_NEUTRAL, **_NEUTRAL_TXT2IMG}, _READ)
    text, loras = _prompt(body)
    values = _values(body, default_scheduler) | {"width": body.get("width"), "height": body.get("height")}
    return Wanted(task="generate", text=text, values=_said(values), loras=loras)


def read_img2img(body: Mapping[str, object], tasks: Sequence[str], default_scheduler: str) -> Wanted:
    """An `img2img` request to a model that can do `tasks`: an edit if it can edit. Raises Problem 400."""
    _refuse(body, {**_NEUTRAL, **_NEUTRAL_IMG2IMG}, (*_READ, *_READ_IMG2IMG))
    images = body.get("init_images")
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], str):
        raise _bad("init_images is no list of one picture. Send one, in base64.", "init_images", "invalid_value")
    mask = body.get("mask") or None
    if mask is not None and not isinstance(mask, str):
        raise _bad("mask is no picture. Send it in base64.", "mask", "invalid_value")
    task = "edit" if "edit" in tasks else "inpaint" if mask else "img2img"
    text, loras = _prompt(body)
    values = _values(body, default_scheduler)
    strength = body.get("denoising_strength")
    if task == "edit":
        _one_of(
            "denoising_strength", strength, _EDITS_STRENGTH, "An edit runs all of its steps: send 1, or leave it out"
        )
        values["image_guidance_scale"] = body.get("image_cfg_scale")
    else:
        values["strength"] = 0.75 if strength is None else strength
    is_region = False
    if mask:
        is_region = body.get("inpaint_full_res") in (None, True, 1)
        values["mask_blur"] = _blur(body)
        values["invert_mask"] = bool(body.get("inpainting_mask_invert"))
        values["mask_padding"] = (body.get("inpaint_full_res_padding") or 0) if is_region else None
        if task == "inpaint" and values["strength"] != 1:
            remedy = "Below a denoising_strength of 1 the picture under the mask is the beginning: send 1 (original)"
            _one_of("inpainting_fill", body.get("inpainting_fill", 0), (_ORIGINAL,), remedy)
    return Wanted(
        task=task,
        text=text,
        values=_said(values),
        loras=loras,
        # Around a masked region the picture stays as large as it is.
        has_size=not is_region and (body.get("width") is not None or body.get("height") is not None),
        image=images[0],
        mask=mask,
    )


def _refuse(body: Mapping[str, object], neutral: Mapping[str, Any], read: Sequence[str]) -> None:
    """Raise Problem for what is not known, and for what asks for something that is not done."""
    for name, value in body.items():
        if name in neutral:
            if neutral[name] is not _ANY:
                _one_of(name, value, neutral[name], "It is not supported: leave it out")
        elif name not in read:
            near = difflib.get_close_matches(name[:100], [*read, *neutral], 1)
            remedy = f"Did you mean {near[0]}?" if near else "Leave it out."
            raise _bad(f"There is no field {name!r:.60}. {remedy}", name, "unknown_parameter")


def _one_of(name: str, value: object, allowed: Sequence[object], remedy: str) -> None:
    if value not in allowed:
        raise _bad(f"{name} is {value!r:.60}. {remedy}.", name, "unsupported_parameter")


def _bad(message: str, param: str, code: str) -> Problem:
    return Problem(400, code, message, param)


def _prompt(body: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """The prompt without its LoRAs, and these: `<lora:name:0.8>`."""
    prompt = body.get("prompt") or ""
    if not isinstance(prompt, str):
        raise _bad("prompt is no text. Send a string.", "prompt", "invalid_value")
    loras = tuple(f"{name.strip()}:{scale or 1}" for name, scale in LORA.findall(prompt))
    return LORA.sub("", prompt).strip(), loras


def _values(body: Mapping[str, object], default_scheduler: str) -> dict[str, object]:
    """The options that both requests have, by pixrt's names; None where nothing is said."""
    scheduler = _scheduler(body)
    eta = body.get("eta")
    acting = scheduler or default_scheduler
    if acting == "euler_ancestral":
        _one_of("eta", eta, (None, 1), "Euler a is ancestral with an eta of 1: send 1, or take Euler")
    return {
        "negative_prompt": body.get("negative_prompt"),
        "seed": None if body.get("seed") in (-1, "-1") else body.get("seed"),
        "scheduler": scheduler,
        "steps": body.get("steps"),
        "guidance_scale": body.get("cfg_scale"),
        "eta": eta if acting == "ddim" else None,  # A1111's other samplers do not look at it either
    }


def _scheduler(body: Mapping[str, object]) -> str | None:
    name = body.get("sampler_name") or body.get("sampler_index")
    schedule = body.get("scheduler") or "automatic"
    if not isinstance(name, str) and name is not None:
        raise _bad("sampler_name is no text. Send a name of /sdapi/v1/samplers.", "sampler_name", "invalid_value")
    if name is None or name in SCHEDULERS:
        known: Mapping[str, str] = {"automatic": name or ""}
    elif name.lower() in SAMPLER_NAMES:
        known = SAMPLERS[SAMPLER_NAMES[name.lower()]]
    else:
        names = ", ".join(SAMPLERS)
        raise _bad(f"sampler_name is {name!r:.60}. Choose one of {names}.", "sampler_name", "unsupported_value")
    found = known.get(schedule.lower()) if isinstance(schedule, str) else None
    if found is None:
        message = (
            f"scheduler is {schedule!r:.60}. For {name or 'the default sampler'} choose one of {', '.join(known)}."
        )
        raise _bad(message, "scheduler", "unsupported_value")
    return found or None


def _blur(body: Mapping[str, object]) -> object:
    both = [body[name] for name in ("mask_blur_x", "mask_blur_y") if body.get(name) is not None]
    if body.get("mask_blur") is not None or not both:
        return body.get("mask_blur")
    if any(side != both[0] for side in both):
        raise _bad("mask_blur_x and mask_blur_y differ. Give both the same.", "mask_blur_y", "unsupported_value")
    return both[0]


def _said(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
