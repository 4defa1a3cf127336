"""The closed sets that options choose from, and the presets. Must not import numpy or Pillow."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

SchedulerName = Literal[
    "ddim",
    "ddpm",
    "euler",
    "euler_ancestral",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_2m_sde",
    "unipc",
    "pndm",
    "lcm",
]
PresetName = Literal["turbo", "fast", "quality", "lcm"]
ResizeMode = Literal["exact", "fit", "floor8"]
CpuPrecision = Literal["fp32", "bf16"]
SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
CPU_PRECISIONS: tuple[str, ...] = get_args(CpuPrecision)

# What a preset sets, below what is said and above the bundle's defaults.
# turbo and fast are rungs of a bundle's ladder: see `pixrt.options.ladder`.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "turbo": {},
    "fast": {},
    "quality": {"scheduler": "dpmpp_2m", "steps": 50},
    "lcm": {"scheduler": "lcm", "steps": 4, "guidance_scale": 1.5, "image_guidance_scale": 1.0},
}

DEFAULT_FIELDS = ("steps", "guidance_scale", "image_guidance_scale", "scheduler")
# Of these every bundle has the same, the exact edit.
EXACT: Mapping[str, int] = {"branch_interval": 1, "cache_interval": 1}
PRESET_FIELDS = (*DEFAULT_FIELDS, *EXACT)
