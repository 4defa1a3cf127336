"""What AUTOMATIC1111's API answers: progress, pictures, and what it says of them. Must not import numpy or Pillow."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pixrt._version import __version__
from pixrt.pictures.a1111 import SAMPLERS
from pixrt.serve.interfaces import answers
from pixrt.serve.messages import Model
from pixrt.serve.tickets import Result, State, Ticket

SHORT_HASH = 10  # digits of a model's hash that people see
_LARGE = ("init_images", "mask")


def title_of(model: Model) -> str:
    """What A1111 calls a checkpoint."""
    return f"{model.name} [{model.sha256[:SHORT_HASH]}]"


def progress_of(tickets: Sequence[Ticket]) -> dict[str, Any]:
    """How far a client's pictures are, of which none has ended: by the one that runs, or is next."""
    now = next((each for each in tickets if each.state is State.RUNNING), tickets[0] if tickets else None)
    step, steps = (now.step, now.steps) if now else (0, 0)
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": now.id if now else "",
        "job_count": len(tickets),
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(now.created)) if now else "0",
        "job_no": 0,
        "sampling_step": step,
        "sampling_steps": steps,
    }
    return {
        "progress": step / steps if steps else 0.0,
        "eta_relative": max(0.0, max(each.prediction.end for each in tickets) - time.time()) if tickets else 0.0,
        "state": state,
        "current_image": None,
        "textinfo": None,
    }


def answer_of(
    said: Mapping[str, Any], tickets: Sequence[Ticket], results: Sequence[Result], model: Model
) -> dict[str, Any]:
    """What A1111 answers; the pictures that came are not sent back."""
    seeds, first = list(map(answers.seed_of, tickets)), results[0]
    prompt, negative = said.get("prompt") or "", said.get("negative_prompt") or ""
    count, options = len(results), first.parameters
    info = {
        "prompt": prompt,
        "all_prompts": [prompt] * count,
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": seeds[0],
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": first.size[0],
        "height": first.size[1],
        "sampler_name": _sampler(options.get("scheduler")),
        "cfg_scale": options.get("guidance_scale"),
        "steps": options.get("steps"),
        "batch_size": count,
        "restore_faces": False,
        "sd_model_name": model.name,
        "sd_model_hash": model.sha256[:SHORT_HASH],
        "denoising_strength": options.get("strength"),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [_infotext(prompt, negative, *made, model) for made in zip(seeds, results, strict=True)],
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
        "clip_skip": 1,
        "version": f"pixrt {__version__}",
    }
    return {
        "images": [answers.encoded(result.data) for result in results],
        "parameters": {name: value for name, value in said.items() if name not in _LARGE and _is_plain(value)},
        "info": json.dumps(info),
    }


def _is_plain(value: object) -> bool:
    """Whether JSON has it: a client's may hold NaN, or be nested as deep as it likes."""
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _sampler(scheduler: Any) -> Any:
    """A1111's name of a solver."""
    return next((name for name, known in SAMPLERS.items() if scheduler in known.values()), scheduler)


def _infotext(prompt: str, negative: str, seed: int, result: Result, model: Model) -> str:
    """The text that A1111 writes into pictures, and reads out of them."""
    options = result.parameters
    values = {
        "Steps": options.get("steps"),
        "Sampler": _sampler(options.get("scheduler")),
        "CFG scale": options.get("guidance_scale"),
        "Image CFG scale": options.get("image_guidance_scale"),
        "Seed": seed,
        "Size": f"{result.size[0]}x{result.size[1]}",
        "Model hash": model.sha256[:SHORT_HASH],
        "Model": model.name,
        "Denoising strength": options.get("strength"),
        "Version": f"pixrt {__version__}",
    }
    last = ", ".join(f"{name}: {value}" for name, value in values.items() if value is not None)
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), last])
