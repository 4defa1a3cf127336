"""The parameters of every task, once: the API, the command line and pictures' metadata all derive from these fields.

Must not import numpy or Pillow.
"""

import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from pixrt.errors import OptionError
from pixrt.options.choices import (
    DEFAULT_FIELDS,
    EXACT,
    PRESETS,
    RESIZE_MODES,
    SCHEDULERS,
    PresetName,
    ResizeMode,
    SchedulerName,
)
from pixrt.options.fields import option, option_fields, validate
from pixrt.options.ladder import LEVERS, MEASURED_PRESETS, Rung, preset_values

MAX_SEED = 2**63 - 1
_RANDOM_SEED_BITS = 32  # short enough to be typed again


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

    @property
    def ladder(self) -> Sequence[Rung]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every task takes. None means the bundle's default (`resolve` fills it in).

    Every field of this and of the tasks' options is validated on construction: OptionError. `task` is the task's name;
    `needs` are the pictures that it must have, and `may_have` those that it may have besides.
    """

    task: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    may_have: ClassVar[frozenset[str]] = frozenset()

    preset: PresetName | None = option(
        None,
        "Sets steps, solver and what is used again where they are not given: fast and turbo are less work than the"
        " bundle's own, quality is more, lcm is for a distilled network.",
        kind="choice",
        choices=tuple(PRESETS),
    )
    steps: int | None = option(None, "Denoising steps.", kind="whole", low=1, high=1000)
    guidance_scale: float | None = option(
        None, "How strongly the text is followed (sT).", kind="number", low=0, high=100
    )
    guidance_interval: tuple[float, float] = option(
        (0.0, 1.0), "Window of the steps, as fractions, in which guidance acts; outside it scales are 1.", kind="window"
    )
    scheduler: SchedulerName | None = option(None, "The solver.", kind="choice", choices=SCHEDULERS)
    eta: float = option(0.0, "DDIM's eta: 0 is deterministic, 1 is as noisy as DDPM.", kind="number", low=0, high=1)
    seed: int | None = option(
        None,
        "Seed of the noise; random when not given.",
        kind="whole",
        low=0,
        high=MAX_SEED,
        remedy=f"It must be from 0 to {MAX_SEED}; leave it out for a random one",
    )
    negative_prompt: str = option("", "What the picture should not show.", kind="text")
    weighting: bool = option(
        True, "In texts (words:1.3) weighs words, as compel does; \\( is a parenthesis.", kind="flag"
    )
    long_prompts: bool = option(
        False, "Read texts to their end, in pieces of 75 tokens; by default what is beyond is left out.", kind="flag"
    )
    budget_ms: int | None = option(
        None,
        "Milliseconds that a picture by itself may take: the best steps, solver and what is used again that fit by what"
        " `pixrt tune` measured, where they are not given.",
        kind="whole",
        low=1,
        high=86_400_000,
        group="Less work",
    )
    branch_interval: int | None = option(
        None,
        "Compute what guidance compares with at every so many steps only, and use it again in between; 1 is exact.",
        kind="whole",
        low=1,
        high=1000,
        group="Less work",
    )
    cache_interval: int | None = option(
        None,
        "Run the whole network at every so many steps only, its last layers in between (DeepCache); 1 is exact. Takes a"
        " bundle exported with --deep-cache.",
        kind="whole",
        low=1,
        high=1000,
        group="Less work",
    )

    def __post_init__(self) -> None:
        validate(self)
        if self.budget_ms is not None and self.preset is not None:
            raise OptionError(
                f"there are a preset, {self.preset}, and a budget of {self.budget_ms} ms, and both choose",
                remedy="Leave one of them out",
                option="budget_ms",
            )
        if self.start == self.steps:
            raise OptionError(
                f"a strength of {getattr(self, 'strength', 1)} leaves none of {self.steps} steps",
                remedy="Use more steps, or a greater strength",
                option="strength",
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

    def unsaid(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values, by name, whose options the caller left open."""
        return {name: value for name, value in values.items() if getattr(self, name, 0) is None}

    @property
    def steering(self) -> tuple[float, tuple[float, float]] | None:
        """How far each step's clean latents are steered to a target, and in which window; only for style."""
        return None

    def resolve(self, defaults: Defaults, levers: Collection[str] = LEVERS) -> Self:
        """The same options, the preset's and the bundle's values where nothing was said. The seed stays as it is.

        `levers` are what can be used again where they run: a preset sets no other. What a budget chooses is not here:
        see `pixrt.tasks.budget`.
        """
        values = {**{name: getattr(defaults, name) for name in DEFAULT_FIELDS}, **EXACT}
        if self.preset in MEASURED_PRESETS:
            values |= preset_values(self.preset, defaults, levers)
        elif self.preset:
            values |= PRESETS[self.preset]
        resolved = dataclasses.replace(self, **self.unsaid(values))
        if resolved.eta and resolved.scheduler != "ddim":
            raise OptionError(
                f"eta is {resolved.eta}, and the scheduler {resolved.scheduler} has no eta",
                remedy="Leave eta at 0, or choose the scheduler ddim",
                option="eta",
            )
        return resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions(Options):
    """What every task takes that begins with a picture."""

    needs: ClassVar[frozenset[str]] = frozenset({"image"})

    resize: ResizeMode = option(
        "exact",
        "exact: output size = input size; fit: the original's crop to multiples of 64; floor8: diffusers' rule.",
        kind="choice",
        choices=RESIZE_MODES,
    )
    resolution: int | None = option(
        None,
        "Longer side of the working picture in pixels.",
        kind="whole",
        low=16,
        high=8192,
    )
    detail: bool = option(
        False,
        "Carry the change to the picture's full size, whose detail it keeps; by default the result is scaled up.",
        kind="flag",
    )

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        if self.detail and self.resize != "exact":
            raise OptionError(
                f"detail is given, and resize is {self.resize}, which does not come back to the picture's size",
                remedy="Leave one of them out",
                option="detail",
            )


def _image_guidance() -> Any:
    return option(None, "How strongly the source picture is kept (sI).", kind="number", low=0, high=100)


def _mask_blur() -> Any:
    return option(
        None,
        "Pixels over which the change fades in, inwards from the mask's edge; a 128th of the longer side, one at"
        " least, by default.",
        kind="whole",
        low=0,
        high=256,
        group="Mask",
    )


def _mask_padding() -> Any:
    return option(
        None,
        "Work only on the masked part, with so many pixels around it, at full resolution.",
        kind="whole",
        low=0,
        high=8192,
        group="Mask",
    )


def _invert_mask() -> Any:
    return option(False, "What the mask says may change stays, and the rest may change.", kind="flag", group="Mask")


def _strength(default: float) -> Any:
    return option(default, "Share of the steps that run: 1 forgets the picture's pixels.", kind="number", low=0, high=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOptions(PictureOptions):
    """How to edit a picture as instructed, all of it or what a mask allows."""

    task: ClassVar[str] = "edit"
    may_have: ClassVar[frozenset[str]] = frozenset({"mask"})

    image_guidance_scale: float | None = _image_guidance()
    mask_blur: int | None = _mask_blur()
    mask_padding: int | None = _mask_padding()
    invert_mask: bool = _invert_mask()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions(Options):
    """How to make a picture from text alone."""

    task: ClassVar[str] = "generate"

    width: int | None = option(None, "Width in pixels.", kind="whole", low=8, high=8192)
    height: int | None = option(None, "Height in pixels.", kind="whole", low=8, high=8192)


@dataclass(frozen=True, slots=True, kw_only=True)
class Img2ImgOptions(PictureOptions):
    """How to make a picture from another one and text (SDEdit, Meng et al. 2022, arXiv:2108.01073)."""

    task: ClassVar[str] = "img2img"

    strength: float = _strength(0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintOptions(PictureOptions):
    """How to fill the masked part of a picture as the text says."""

    task: ClassVar[str] = "inpaint"
    needs: ClassVar[frozenset[str]] = frozenset({"image", "mask"})

    strength: float = _strength(1.0)
    mask_blur: int | None = _mask_blur()
    mask_padding: int | None = _mask_padding()
    invert_mask: bool = _invert_mask()


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleOptions(PictureOptions):
    """How to give a picture the style of another. Weights are how far each step is steered, 0 to 1 together."""

    task: ClassVar[str] = "style"
    needs: ClassVar[frozenset[str]] = frozenset({"image", "style"})

    image_guidance_scale: float | None = _image_guidance()
    strength: float = _strength(0.7)
    content_weight: float = option(
        0.2, "How far each step pulls the picture to the content as it is.", kind="number", low=0, high=1
    )
    style_weight: float = option(
        0.5, "How far each step pulls it to the content in the style.", kind="number", low=0, high=1
    )
    style_interval: tuple[float, float] = option(
        (0.0, 0.6), "Window of the steps, as fractions, in which content and style steer.", kind="window"
    )
    style_patch: int = option(
        3,
        "Side of the patches of latents that are matched with the style's; 0 matches only colours.",
        kind="whole",
        low=0,
        high=9,
    )

    @property
    def steering(self) -> tuple[float, tuple[float, float]]:
        """See `Options.steering`: both weights together, at most all the way."""
        return min(1.0, self.content_weight + self.style_weight), self.style_interval


TASK_OPTIONS: Mapping[str, type[Options]] = {
    options.task: options for options in (EditOptions, GenerateOptions, Img2ImgOptions, InpaintOptions, StyleOptions)
}


def bundle_defaults(options: type[Any], defaults: Defaults, native_resolution: int) -> dict[str, Any]:
    """A bundle's values for those of a task's options that are None where nothing is said; for others none."""
    if not issubclass(options, Options):
        return {}
    values = {**{name: getattr(defaults, name) for name in DEFAULT_FIELDS}, **EXACT}
    values |= dict.fromkeys(("resolution", "width", "height"), native_resolution)
    return {name: values[name] for name in option_fields(options) if name in values}


def draw_seed() -> int:
    """A random seed."""
    return secrets.randbits(_RANDOM_SEED_BITS)


def seeds_from(first: int | None, count: int) -> range:
    """So many seeds, each one more than the one before; the first is drawn where it is None. Raises OptionError."""
    if first is None:
        first = draw_seed()
    if first + count - 1 > MAX_SEED:
        problem = f"the last of {count} seeds from {first} is too large"
        raise OptionError(problem, remedy=f"At most {MAX_SEED}", option="seed")
    return range(first, first + count)
