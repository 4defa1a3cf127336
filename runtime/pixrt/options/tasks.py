"""The parameters of every task, once: the API, the command line and pictures' metadata all derive from these fields.

Must not import numpy or Pillow.
"""

import dataclasses
import numbers
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeAlias, get_args

from pixrt.errors import OptionError

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
PresetName = Literal["turbo", "fast", "quality"]
ResizeMode = Literal["exact", "fit", "floor8"]
BackendName: TypeAlias = str  # what there is only the list of backends knows, and checks

SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
MAX_SEED = 2**63 - 1
_RANDOM_SEED_BITS = 32  # short enough to be typed again


# What a preset sets, below what is said and above the bundle's defaults.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "turbo": {"scheduler": "lcm", "steps": 4, "guidance_scale": 1.5, "image_guidance_scale": 1.0},
    "fast": {"scheduler": "dpmpp_2m", "steps": 12},
    "quality": {"scheduler": "dpmpp_2m", "steps": 50},
}

PRESET_FIELDS = ("steps", "guidance_scale", "image_guidance_scale", "scheduler")


class Defaults(Protocol):
    """What a bundle says where nobody else does."""

    @property
    def steps(self) -> int: ...  # noqa: D102

    @property
    def guidance_scale(self) -> float: ...  # noqa: D102

    @property
    def image_guidance_scale(self) -> float: ...  # noqa: D102

    @property
    def scheduler(self) -> str: ...  # noqa: D102


def _option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    window: bool = False,
) -> Any:
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "window": window}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every task takes. None means the bundle's default (`resolve` fills it in).

    Every field of this and of the tasks' options is validated on construction: OptionError.
    """

    preset: PresetName | None = _option(
        None,
        "turbo, fast or quality: sets scheduler, steps and scales where they are not given.",
        choices=tuple(PRESETS),
    )
    steps: int | None = _option(None, "Denoising steps.", low=1, high=1000)
    guidance_scale: float | None = _option(None, "How strongly the text is followed (sT).", low=0, high=100)
    guidance_interval: tuple[float, float] = _option(
        (0.0, 1.0), "Window of the steps, as fractions, in which guidance acts; outside it scales are 1.", window=True
    )
    scheduler: SchedulerName | None = _option(None, "The solver: " + ", ".join(SCHEDULERS) + ".", choices=SCHEDULERS)
    eta: float = _option(0.0, "DDIM's eta: 0 is deterministic, 1 is as noisy as DDPM.", low=0, high=1)
    seed: int | None = _option(None, "Seed of the noise; random when not given.", low=0, high=MAX_SEED)
    negative_prompt: str = _option("", "What the picture should not show.")

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            value, metadata = getattr(self, option.name), option.metadata
            if value is None and option.default is None:
                continue
            if metadata["low"] is not None:
                object.__setattr__(self, option.name, _number(option, value))
            elif metadata["window"]:
                object.__setattr__(self, option.name, _window(option.name, value))
            elif metadata["choices"]:
                if value not in metadata["choices"]:
                    remedy = f"Choose one of {', '.join(metadata['choices'])}"
                    raise OptionError(f"{option.name} is {value!r:.60}", remedy=remedy)
            elif not isinstance(value, str):
                raise OptionError(f"{option.name} is {value!r:.60}", remedy="Pass a string")
        if self.start == self.steps:
            raise OptionError(
                f"a strength of {getattr(self, 'strength', 1)} leaves none of {self.steps} steps",
                remedy="Use more steps, or a greater strength",
            )

    @property
    def scales(self) -> tuple[float, float]:
        """Guidance scales of the text and of the source picture (resolved options); 1 where the latter is no option."""
        assert self.guidance_scale is not None
        return self.guidance_scale, getattr(self, "image_guidance_scale", 1.0)

    @property
    def start(self) -> int:
        """How many of the steps are left out at the beginning, diffusers' rule: `strength` of them run."""
        strength, steps = getattr(self, "strength", 1.0), self.steps or 0
        return steps - min(int(steps * strength), steps)

    @property
    def steering(self) -> tuple[float, tuple[float, float]] | None:
        """How far each step's clean latents are steered to a target, and in which window; for style alone."""
        return None

    def resolve(self, defaults: Defaults) -> Self:
        """The same options, the preset's and the bundle's values where nothing was said. The seed stays as it is."""
        preset = PRESETS[self.preset] if self.preset else {}
        unsaid = [name for name in PRESET_FIELDS if getattr(self, name, 0) is None]
        filled = {name: preset.get(name, getattr(defaults, name)) for name in unsaid}
        resolved = dataclasses.replace(self, **filled)
        if resolved.eta and resolved.scheduler != "ddim":
            raise OptionError(
                f"eta is {resolved.eta}, and the scheduler {resolved.scheduler} has no eta",
                remedy="Leave eta at 0, or choose the scheduler ddim",
            )
        return resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions(Options):
    """What every task takes that begins with a picture."""

    resize: ResizeMode = _option(
        "exact",
        "exact: output size = input size; fit: the original's crop to multiples of 64; floor8: diffusers' rule.",
        choices=RESIZE_MODES,
    )
    resolution: int | None = _option(
        None,
        "Longer side of the working picture in pixels; the bundle's native one by default.",
        low=16,
        high=8192,
    )


def _image_guidance() -> Any:
    return _option(None, "How strongly the source picture is kept (sI).", low=0, high=100)


def _mask_blur() -> Any:
    return _option(
        None,
        "With a mask: pixels over which the change fades in, inwards from the edge; a 128th of the longer side, one at"
        " least, by default.",
        low=0,
        high=256,
    )


def _mask_padding() -> Any:
    return _option(
        None,
        "With a mask: work on the masked part alone, with so many pixels around it, at full resolution.",
        low=0,
        high=8192,
    )


def _strength(default: float) -> Any:
    return _option(default, "Share of the steps that run: 1 forgets the picture's pixels.", low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOptions(PictureOptions):
    """How to edit a picture as instructed, all of it or what a mask allows."""

    image_guidance_scale: float | None = _image_guidance()
    mask_blur: int | None = _mask_blur()
    mask_padding: int | None = _mask_padding()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions(Options):
    """How to make a picture from text alone."""

    width: int | None = _option(None, "Width in pixels; the bundle's native one by default.", low=8, high=8192)
    height: int | None = _option(None, "Height in pixels; the bundle's native one by default.", low=8, high=8192)


@dataclass(frozen=True, slots=True, kw_only=True)
class Img2ImgOptions(PictureOptions):
    """How to make a picture from another one and text (SDEdit, Meng et al. 2022, arXiv:2108.01073)."""

    strength: float = _strength(0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintOptions(PictureOptions):
    """How to fill the masked part of a picture as the text says."""

    strength: float = _strength(1.0)
    mask_blur: int | None = _mask_blur()
    mask_padding: int | None = _mask_padding()


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleOptions(PictureOptions):
    """How to give a picture the style of another. Weights are how far each step is steered, 0 to 1 together."""

    image_guidance_scale: float | None = _image_guidance()
    strength: float = _strength(0.7)
    content_weight: float = _option(0.2, "How far each step pulls the picture to the content as it is.", low=0, high=1)
    style_weight: float = _option(0.5, "How far each step pulls it to the content in the style.", low=0, high=1)
    style_interval: tuple[float, float] = _option(
        (0.0, 0.6), "Window of the steps, as fractions, in which content and style steer.", window=True
    )
    style_patch: int = _option(
        3, "Side of the patches of latents that are matched with the style's; 0 matches colours alone.", low=0, high=9
    )

    @property
    def steering(self) -> tuple[float, tuple[float, float]]:
        """See `Options.steering`: both weights together, at most all the way."""
        return min(1.0, self.content_weight + self.style_weight), self.style_interval


def draw_seed() -> int:
    """A random seed."""
    return secrets.randbits(_RANDOM_SEED_BITS)


def seeds_from(first: int | None, count: int) -> range:
    """So many seeds, each one more than the one before; the first is drawn where it is None. Raises OptionError."""
    if first is None:
        first = draw_seed()
    if first + count - 1 > MAX_SEED:
        raise OptionError(f"the last of {count} seeds from {first} is too large", remedy=f"At most {MAX_SEED}")
    return range(first, first + count)


def _number(option: "dataclasses.Field[Any]", value: object) -> int | float:
    """Within its bounds, and as Python's own: NumPy's are taken too, but what is kept must be plain JSON."""
    low, high = option.metadata["low"], option.metadata["high"]
    remedy = f"It must be from {low} to {high}"
    whole = "int" in str(option.type)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
        name = "a whole number" if whole else "a number"
        raise OptionError(f"{option.name} is {value!r:.60}, which is not {name}", remedy=remedy)
    if not low <= value <= high:  # before the conversion: floats end at 1.8e308
        raise OptionError(f"{option.name} is {value!s:.60}", remedy=remedy)
    return int(value) if whole else float(value)  # type: ignore[call-overload]  # Integral has no stub for it


def _window(name: str, value: object) -> tuple[float, float]:
    if not (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in value)
        and 0 <= value[0] <= value[1] <= 1
    ):
        raise OptionError(
            f"{name} is {value!r}",
            remedy="Pass two fractions of the steps, 0 <= first <= second <= 1, for example (0.0, 0.8)",
        )
    return float(value[0]), float(value[1])
