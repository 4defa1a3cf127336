"""A checkpoint's scheduler_config.json as settings. What is not said takes the default of the class in diffusers.

Pure data; imports only numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from pixrt.errors import OptionError
from pixrt.maths.schedule import (
    SMALLEST_ALPHA,
    BetaSchedule,
    Column,
    Spacing,
    make_alphas_cumprod,
    make_betas,
    rescale_zero_snr,
)

_MOST_TIMESTEPS = 100_000  # of training; a thousand are usual


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a solver for N `steps`, of which the first `start` are left out.

    `alphas_cumprod` is `[T]`. `final_alpha` stands for the clean picture: 1, or the first of the schedule.
    """

    steps: int
    start: int
    eta: float
    alphas_cumprod: Column
    prediction_type: Literal["epsilon", "v_prediction"]
    spacing: Spacing
    steps_offset: int
    final_alpha: float
    final_sigma: float
    karras: bool
    karras_rounded: bool
    original_steps: int
    timestep_scaling: float

    @property
    def train(self) -> int:
        """Training timesteps, T."""
        return len(self.alphas_cumprod)

    def alphas_at(self, timesteps: Column) -> Column:
        """`alphas_cumprod` at whole timesteps. Raises OptionError if one is beyond the training's last."""
        if timesteps.max() > self.train - 1:
            raise OptionError(
                f"{self.steps} steps begin at timestep {timesteps.max():g}, and training ended at {self.train - 1}",
                remedy="Use fewer steps",
                option="steps",
            )
        found: Column = self.alphas_cumprod[timesteps.astype(int)]
        return found


@dataclass(frozen=True, slots=True)
class SchedulerClass:
    """A scheduler class of diffusers: what it assumes if its config says nothing.

    Attributes:
        finite_sigmas: it replaces an infinite sigma, at zero terminal SNR, by the largest of FP16.
        only: settings of which pixrt computes some values. Others are refused, never ignored; what a class does not
            have is no concern of it.
    """

    name: str
    spacing: Spacing
    only: Mapping[str, tuple[Any, ...]]
    set_alpha_to_one: bool = True
    finite_sigmas: bool = False
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: BetaSchedule = "linear"


def read_settings(
    config: Mapping[str, Any], defaults: SchedulerClass, steps: int, eta: float, start: int = 0
) -> Settings:
    """Read a config. Raises OptionError for what pixrt does not compute, and for more steps than training timesteps."""
    try:
        return _read(config, defaults, steps, eta, start)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(
            f"the checkpoint's scheduler config cannot be read: {error}",
            remedy="Mend the scheduler_config.json of the checkpoint and export again",
        ) from error


def _read(config: Mapping[str, Any], defaults: SchedulerClass, steps: int, eta: float, start: int) -> Settings:
    unsaid = config.get("_use_default_values") or ()
    given = {name: value for name, value in config.items() if name not in unsaid and value is not None}
    for name, known in defaults.only.items():
        _choice(given, name, known[0], known)
    prediction_type = _choice(given, "prediction_type", "epsilon", ("epsilon", "v_prediction"))
    alphas_cumprod = _alphas_cumprod(given, defaults, prediction_type)
    train = len(alphas_cumprod)
    if steps > train:
        problem = f"steps is {steps}, more than the {train} training timesteps"
        raise OptionError(problem, remedy="Use fewer steps", option="steps")
    first = float(alphas_cumprod[0])
    final_sigmas_type = _choice(given, "final_sigmas_type", "zero", ("zero", "sigma_min"))
    return Settings(
        steps=steps,
        start=start,
        eta=eta,
        alphas_cumprod=alphas_cumprod,
        prediction_type=prediction_type,
        spacing=_choice(given, "timestep_spacing", defaults.spacing, get_args(Spacing)),
        steps_offset=int(_within(given, "steps_offset", 0, 0, _MOST_TIMESTEPS)),
        final_alpha=1.0 if given.get("set_alpha_to_one", defaults.set_alpha_to_one) else first,
        final_sigma=0.0 if final_sigmas_type == "zero" else ((1 - first) / first) ** 0.5,
        karras=bool(given.get("use_karras_sigmas", False)),
        karras_rounded=given.get("beta_schedule") != "squaredcos_cap_v2",
        original_steps=int(_within(given, "original_inference_steps", 50, 1, _MOST_TIMESTEPS)),
        timestep_scaling=_within(given, "timestep_scaling", 10.0, 0, 1e9),
    )


def _alphas_cumprod(given: Mapping[str, Any], defaults: SchedulerClass, prediction_type: str) -> Column:
    if "trained_betas" in given:
        betas = np.asarray(given["trained_betas"], np.float64)
    else:
        betas = make_betas(
            _choice(given, "beta_schedule", defaults.beta_schedule, get_args(BetaSchedule)),
            _within(given, "beta_start", defaults.beta_start, 0, 1),
            _within(given, "beta_end", defaults.beta_end, 0, 1),
            int(_within(given, "num_train_timesteps", 1000, 1, _MOST_TIMESTEPS)),
        )
    if betas.ndim != 1 or not 0 < len(betas) <= _MOST_TIMESTEPS or not ((betas >= 0) & (betas < 1)).all():
        raise ValueError(f"its betas are not 1 to {_MOST_TIMESTEPS} numbers from 0 to below 1")
    if not given.get("rescale_betas_zero_snr", False):
        return make_alphas_cumprod(betas)
    alphas_cumprod = make_alphas_cumprod(rescale_zero_snr(betas))
    if defaults.finite_sigmas:
        alphas_cumprod[-1] = SMALLEST_ALPHA
    elif prediction_type == "epsilon":
        raise OptionError(
            "the checkpoint's scheduler has zero terminal SNR with epsilon prediction, which says nothing at that step",
            remedy="Choose the scheduler euler, euler_ancestral, dpmpp_2m or unipc",
        )
    return alphas_cumprod


def _within(given: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """A number of the config. Raises ValueError for one out of range, which may be a stranger's."""
    value = float(given.get(name, default))
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}, which must be from {low:g} to {high:g}")
    return value


def _choice(given: Mapping[str, Any], name: str, default: Any, choices: tuple[Any, ...]) -> Any:
    value = given.get(name, default)
    if value not in choices:
        raise OptionError(
            f"the checkpoint's scheduler has {name} {value!r}; pixrt computes {' or '.join(map(repr, choices))} only",
            remedy="Choose another --scheduler, or change the scheduler_config.json of the checkpoint and export again",
        )
    return value
