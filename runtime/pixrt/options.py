"""The parameters of an edit, once: the API, the command line and the metadata in pictures all derive from these fields.

Must not import numpy or Pillow.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

from pixrt.errors import OptionError
from pixrt.spec import Defaults

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
ResizeMode = Literal["exact", "fit", "floor8"]
BackendName = Literal[
    "auto", "tensorrt", "tensorrt-rtx", "ort-tensorrt", "ort-tensorrt-rtx", "ort-cuda", "ort-cpu", "null"
]

SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
BACKENDS: tuple[str, ...] = get_args(BackendName)
MAX_SEED = 2**63 - 1


def _option(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOptions:
    """How to edit. None means the bundle's default (`resolve` fills it in). Validated on construction: OptionError."""

    steps: int | None = _option(None, "Denoising steps.", low=1, high=1000)
    guidance_scale: float | None = _option(None, "How strongly the instruction is followed (sT).", low=0, high=100)
    image_guidance_scale: float | None = _option(None, "How strongly the source picture is kept (sI).", low=0, high=100)
    guidance_interval: tuple[float, float] = _option(
        (0.0, 1.0), "Window of the steps, as fractions, in which guidance acts; outside it both scales are 1."
    )
    scheduler: SchedulerName | None = _option(None, "The solver: " + ", ".join(SCHEDULERS) + ".")
    eta: float = _option(0.0, "DDIM's eta: 0 is deterministic, 1 is as noisy as DDPM.", low=0, high=1)
    seed: int | None = _option(None, "Seed of the noise; random when not given.", low=0, high=MAX_SEED)
    negative_prompt: str = _option("", "What the picture should not show.")
    resize: ResizeMode = _option(
        "exact",
        "exact: output size = input size; fit: the original's crop to multiples of 64; floor8: diffusers' rule.",
    )
    resolution: int | None = _option(
        None,
        "Longer side of the working picture in pixels; the bundle's native one by default.",
        low=16,
        high=8192,
    )

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            value, low, high = getattr(self, option.name), option.metadata["low"], option.metadata["high"]
            if low is None or (value is None and option.default is None):
                continue
            # NumPy's numbers are taken too, as Python's: what is kept must be plain JSON.
            kind, name = (int, "a whole number") if "int" in str(option.type) else (float, "a number")
            if isinstance(value, bool) or not isinstance(value, numbers.Integral if kind is int else numbers.Real):
                raise OptionError(f"{option.name} is {value!r:.60}, which is not {name}", remedy=_range(low, high))
            if not low <= value <= high:
                raise OptionError(f"{option.name} is {value!s:.60}", remedy=_range(low, high))
            object.__setattr__(self, option.name, kind(value))  # type: ignore[call-overload]
        if self.scheduler is not None:
            _choice("scheduler", self.scheduler, SCHEDULERS)
        _choice("resize", self.resize, RESIZE_MODES)
        if not isinstance(self.negative_prompt, str):
            raise OptionError(f"negative_prompt is {self.negative_prompt!r}", remedy="Pass a string")
        self._check_interval()

    def _check_interval(self) -> None:
        interval = self.guidance_interval
        if not (
            isinstance(interval, tuple)
            and len(interval) == 2
            and all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in interval)
            and 0 <= interval[0] <= interval[1] <= 1
        ):
            raise OptionError(
                f"guidance_interval is {interval!r}",
                remedy="Pass two fractions of the steps, 0 <= first <= second <= 1, for example (0.0, 0.8)",
            )
        object.__setattr__(self, "guidance_interval", (float(interval[0]), float(interval[1])))

    def resolve(self, defaults: Defaults) -> "EditOptions":
        """The same options with the bundle's defaults where nothing was said. The seed stays as it is."""
        filled = {
            name: getattr(defaults, name)
            for name in ("steps", "guidance_scale", "image_guidance_scale", "scheduler")
            if getattr(self, name) is None
        }
        resolved = dataclasses.replace(self, **filled)
        if resolved.eta and resolved.scheduler != "ddim":
            raise OptionError(
                f"eta is {resolved.eta}, and the scheduler {resolved.scheduler} has no eta",
                remedy="Leave eta at 0, or choose the scheduler ddim",
            )
        return resolved


class EditParameters(TypedDict, total=False):
    """The fields of `EditOptions` as keyword arguments; in one call for several pictures each may have its own seed."""

    steps: int | None
    guidance_scale: float | None
    image_guidance_scale: float | None
    guidance_interval: tuple[float, float]
    scheduler: SchedulerName | None
    eta: float
    seed: int | Sequence[int] | None
    negative_prompt: str
    resize: ResizeMode
    resolution: int | None


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name} is {value!r}", remedy=f"Choose one of {', '.join(choices)}")


def _range(low: float, high: float) -> str:
    return f"It must be from {low} to {high}"
