"""What AUTOMATIC1111's web UI writes into pictures, in pixrt's words, and back.

Must not import numpy, Pillow or a backend.

Its text is the prompt, a line `Negative prompt: ...`, and a last line `Steps: 20, Sampler: Euler a, ...`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pixrt.options.choices import SCHEDULERS, SchedulerName

# A1111's samplers, and their schedules of the noise: "automatic" is its own choice.
SAMPLERS: Mapping[str, Mapping[str, SchedulerName]] = {
    "Euler a": {"automatic": "euler_ancestral"},
    "Euler": {"automatic": "euler"},
    "DPM++ 2M": {"automatic": "dpmpp_2m_karras", "karras": "dpmpp_2m_karras", "uniform": "dpmpp_2m"},
    "DPM++ 2M Karras": {"automatic": "dpmpp_2m_karras", "karras": "dpmpp_2m_karras"},
    "DPM++ 2M SDE": {"automatic": "dpmpp_2m_sde"},
    "DDIM": {"automatic": "ddim"},
    "PLMS": {"automatic": "pndm"},
    "UniPC": {"automatic": "unipc"},
    "LCM": {"automatic": "lcm"},
    "DDPM": {"automatic": "ddpm"},
}
SCHEDULES = ("automatic", "uniform", "karras")
SAMPLER_NAMES: Mapping[str, str] = {name.lower(): name for name in SAMPLERS}
LORA = re.compile(r"<lora:([^:<>]+)(?::([^:<>]*))?>")

_SHORT_HASH = 10  # digits of a model's hash
_MOST_CHARACTERS = 100_000
_NEGATIVE = "Negative prompt:"
_LEAST = 3  # settings on the last line; with fewer A1111 takes it for text too
_PLAIN: Mapping[str, str] = {
    "Steps": "steps",
    "CFG scale": "guidance_scale",
    "Image CFG scale": "image_guidance_scale",
    "Seed": "seed",
}
# What says which file it was, or repeats what is said elsewhere.
_SILENT = frozenset({"Model", "Model hash", "Version", "Lora hashes", "Schedule type", "Size", "Sampler"})
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def read_a1111(text: str) -> dict[str, Any] | None:
    """A text of A1111's as the parameters that pixrt writes, not checked; None if it is no such text.

    What has no meaning here is under "a1111", by A1111's own names. Which task it was is not said: it is told by what
    is: a scale of the image is an edit's, a mask's blur is of inpainting, a strength without a second pass of img2img.
    """
    lines = text[:_MOST_CHARACTERS].strip().splitlines()
    said = dict(_settings(lines[-1])) if lines else {}
    if len(said) < _LEAST or "Steps" not in said:
        return None
    prompt, negative = _texts(lines[:-1])
    task = _task(said)
    loras = [{"name": name.strip(), "scale": _number(scale or "1")} for name, scale in LORA.findall(prompt)]
    found: dict[str, Any] = {
        "task": task,
        "model": said.get("Model", ""),
        **({"loras": loras} if loras else {}),
        "instruction": LORA.sub("", prompt).strip(),
        **({"negative_prompt": negative} if negative else {}),
        **{name: _number(said[theirs]) for theirs, name in _PLAIN.items() if theirs in said},
    }
    taken = {*_PLAIN, *_SILENT}
    scheduler = _scheduler(said)
    if scheduler is not None:
        found["scheduler"] = scheduler
    elif "Sampler" in said:
        taken -= {"Sampler", "Schedule type"}
    size = _SIZE.fullmatch(said.get("Size", ""))
    if size is not None:
        width, height = map(int, size.groups())
        found |= {"width": width, "height": height} if task == "generate" else {"resolution": max(width, height)}
    if task in ("img2img", "inpaint"):
        found["strength"] = _number(said["Denoising strength"])
        taken.add("Denoising strength")
    if task == "inpaint":
        found["mask_blur"] = _number(said["Mask blur"])
        taken.add("Mask blur")
    if task != "edit":
        found.pop("image_guidance_scale", None)
    return found | {"a1111": {name: value for name, value in said.items() if name not in taken}}


def write_a1111(parameters: Mapping[str, Any], size: tuple[int, int]) -> str:
    """What A1111 would write of pixrt's parameters into a picture of `size`, (width, height) in pixels.

    A scheduler that A1111 has not has pixrt's name.
    """
    loras = (
        f"<lora:{each['name'].removesuffix('.safetensors')}:{_digits(each['scale'])}>"
        for each in parameters.get("loras", ())
    )
    said: dict[str, Any] = {"Steps": parameters.get("steps"), **_sampler(str(parameters.get("scheduler", "")))}
    said |= {theirs: parameters.get(name) for theirs, name in _PLAIN.items() if theirs != "Steps"}
    said |= {"Size": f"{size[0]}x{size[1]}", "Model hash": str(parameters.get("model_sha256", ""))[:_SHORT_HASH]}
    said |= {"Model": parameters.get("model"), "Denoising strength": parameters.get("strength")}
    inpaints = parameters.get("task") == "inpaint"  # A1111's edits have no mask
    said |= {
        "Mask blur": parameters.get("mask_blur") if inpaints else None,
        "Version": f"pixrt {parameters.get('pixrt', '')}",
    }
    settings = (f"{name}: {_quoted(_digits(value))}" for name, value in said.items() if value not in (None, ""))
    negative = parameters.get("negative_prompt")
    lines = [" ".join([parameters.get("instruction", ""), *loras]), *([f"{_NEGATIVE} {negative}"] if negative else [])]
    return "\n".join([*lines, ", ".join(settings)])


def _sampler(scheduler: str) -> dict[str, str]:
    for name, schedules in SAMPLERS.items():
        for schedule, known in schedules.items():
            if known == scheduler:
                kind = {} if schedule == "automatic" else {"Schedule type": schedule.capitalize()}
                return {"Sampler": name, **kind}
    return {"Sampler": scheduler}


def _digits(value: Any) -> str:
    """A number without an exponent, which A1111's readers do not take."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:"\n') else value


def _texts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt, each of any number of lines."""
    at = next((number for number, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[at:]).strip().removeprefix(_NEGATIVE)
    return "\n".join(lines[:at]).strip(), negative.strip()


def _settings(line: str) -> Iterator[tuple[str, str]]:
    """The names and values of `Name: value, Name: "a value, quoted", ...`."""
    for part in _parts(line):
        name, colon, value = part.partition(":")
        if colon and name.strip():
            yield name.strip(), _unquoted(value.strip())


def _parts(line: str) -> Iterator[str]:
    """What is between commas that are in no quotes."""
    start, is_quoted, is_escaped = 0, False, False
    for at, letter in enumerate(line):
        if letter == '"' and not is_escaped:
            is_quoted = not is_quoted
        elif letter == "," and not is_quoted:
            yield line[start:at]
            start = at + 1
        is_escaped = letter == "\\" and not is_escaped
    yield line[start:]


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            read = json.loads(value)
        except ValueError:
            return value
        return read if isinstance(read, str) else value
    return value


def _task(said: Mapping[str, str]) -> str:
    if "Image CFG scale" in said:
        return "edit"
    if "Denoising strength" not in said or any(name.startswith("Hires") for name in said):
        return "generate"
    return "inpaint" if "Mask blur" in said else "img2img"


def _scheduler(said: Mapping[str, str]) -> str | None:
    name, schedule = said.get("Sampler", ""), said.get("Schedule type", "automatic").lower()
    if name in SCHEDULERS:
        return name
    return SAMPLERS.get(SAMPLER_NAMES.get(name.lower(), ""), {}).get(schedule)


def _number(text: str) -> int | float | str:
    """The number that a text is, or the text: checking it says what is wrong."""
    if re.fullmatch(r"-?[0-9]{1,30}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?[0-9]{0,30}\.[0-9]{1,30}", text) else text
