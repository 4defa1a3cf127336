"""The fields of options as keyword arguments, for type checkers. Must not import numpy or Pillow."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from pixrt.options.choices import CpuPrecision, PresetName, ResizeMode, SchedulerName


class SessionParameters(TypedDict, total=False):
    """The fields of `SessionOptions`."""

    backend: str
    threads: int | None
    cpu_precision: CpuPrecision
    max_batch: int
    tile: int | None
    low_memory: bool
    verify: bool | None
    fused_step: bool | None
    provider_options: Mapping[str, str] | None
    cuda_graphs: bool
    weight_budget_mib: int | None
    trust_engines: bool


class Parameters(TypedDict, total=False):
    """The fields of `Options`; in one call for several pictures each may have its own seed."""

    preset: PresetName | None
    steps: int | None
    guidance_scale: float | None
    guidance_interval: tuple[float, float]
    scheduler: SchedulerName | None
    eta: float
    seed: int | Sequence[int] | None
    negative_prompt: str
    weighting: bool
    long_prompts: bool
    budget_ms: int | None
    branch_interval: int | None
    cache_interval: int | None


class PictureParameters(Parameters, total=False):
    """The fields of `PictureOptions`."""

    resize: ResizeMode
    resolution: int | None
    detail: bool


class EditParameters(PictureParameters, total=False):
    """The fields of `EditOptions`."""

    image_guidance_scale: float | None
    mask_blur: int | None
    mask_padding: int | None
    invert_mask: bool


class GenerateParameters(Parameters, total=False):
    """The fields of `GenerateOptions`."""

    width: int | None
    height: int | None


class Img2ImgParameters(PictureParameters, total=False):
    """The fields of `Img2ImgOptions`."""

    strength: float


class InpaintParameters(PictureParameters, total=False):
    """The fields of `InpaintOptions`."""

    strength: float
    mask_blur: int | None
    mask_padding: int | None
    invert_mask: bool


class StyleParameters(PictureParameters, total=False):
    """The fields of `StyleOptions`."""

    image_guidance_scale: float | None
    strength: float
    content_weight: float
    style_weight: float
    style_interval: tuple[float, float]
    style_patch: int
