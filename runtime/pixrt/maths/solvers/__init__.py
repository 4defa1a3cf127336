"""The solvers as coefficient tables: one function each, from settings to rows. Pure maths; imports only numpy."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pixrt.errors import OptionError
from pixrt.maths.solvers.ddim import ddim, ddpm
from pixrt.maths.solvers.dpm_solver import dpmpp_2m, dpmpp_2m_sde
from pixrt.maths.solvers.euler import euler, euler_ancestral
from pixrt.maths.solvers.lcm import lcm
from pixrt.maths.solvers.pndm import pndm
from pixrt.maths.solvers.settings import SchedulerClass, Settings, read_settings
from pixrt.maths.solvers.table import StepTable
from pixrt.maths.solvers.unipc import unipc
from pixrt.options.choices import SCHEDULERS

__all__ = ["build_table", "scheduler_name"]


@dataclass(frozen=True, slots=True)
class _Solver:
    """A solver, its class in diffusers, and the settings that its name implies."""

    solve: Callable[[Settings], StepTable]
    saved_as: SchedulerClass
    implied: Mapping[str, Any] = field(default_factory=dict)


# Each class's settings of which pixrt computes some values only; UniPC and DPM-Solver take each other's solver_type.
# clip_sample is False if a config does not say: it clips pixels to [-1, 1], and these models' samples are latents.
_PLAIN = {"thresholding": (False,), "clip_sample": (False,)}
_SIGMAS = {"use_exponential_sigmas": (False,), "use_beta_sigmas": (False,)}
_MULTISTEP = _SIGMAS | {
    "thresholding": (False,),
    "solver_order": (2,),
    "lower_order_final": (True,),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
}
_DPM_ONLY = _MULTISTEP | {
    "solver_type": ("midpoint", "bh2"),
    "use_lu_lambdas": (False,),
    "euler_at_final": (False,),
    "lambda_min_clipped": (-math.inf,),
}
_UNIPC_ONLY: dict[str, tuple[Any, ...]] = _MULTISTEP | {
    "solver_type": ("bh2", "midpoint"),
    "predict_x0": (True,),
    "disable_corrector": ([],),
}
_EULER_ONLY = _SIGMAS | {"interpolation_type": ("linear",), "timestep_type": ("discrete",)}
_DPM = SchedulerClass("DPMSolverMultistepScheduler", "linspace", _DPM_ONLY, finite_sigmas=True)

_SOLVERS = {
    "ddim": _Solver(ddim, SchedulerClass("DDIMScheduler", "leading", _PLAIN)),
    "ddpm": _Solver(ddpm, SchedulerClass("DDPMScheduler", "leading", _PLAIN | {"variance_type": ("fixed_small",)})),
    "euler": _Solver(euler, SchedulerClass("EulerDiscreteScheduler", "linspace", _EULER_ONLY, finite_sigmas=True)),
    "euler_ancestral": _Solver(
        euler_ancestral, SchedulerClass("EulerAncestralDiscreteScheduler", "linspace", {}, finite_sigmas=True)
    ),
    "dpmpp_2m": _Solver(dpmpp_2m, _DPM, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_2m_karras": _Solver(dpmpp_2m, _DPM, {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpmpp_2m_sde": _Solver(dpmpp_2m_sde, _DPM, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": _Solver(unipc, SchedulerClass("UniPCMultistepScheduler", "linspace", _UNIPC_ONLY, finite_sigmas=True)),
    "pndm": _Solver(
        pndm, SchedulerClass("PNDMScheduler", "leading", {"skip_prk_steps": (True,)}, set_alpha_to_one=False)
    ),
    "lcm": _Solver(
        lcm,
        SchedulerClass(
            "LCMScheduler", "leading", _PLAIN, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
    ),
}


def build_table(name: str, config: Mapping[str, Any], steps: int, *, eta: float = 0.0, start: int = 0) -> StepTable:
    """The table of solver `name` over `steps` steps, for a checkpoint's scheduler_config.json.

    The first `start` steps are left out; solvers with memory begin anew after them. PNDM makes one network call more
    than there are steps. Raises OptionError for an unknown name, a setting that pixrt does not compute, more steps than
    the solver has, or steps so many or a schedule so steep that it has no finite answer.
    """
    if name not in _SOLVERS:
        raise OptionError(f"scheduler is {name!r}", remedy=f"Choose one of {', '.join(SCHEDULERS)}")
    solver = _SOLVERS[name]
    settings = read_settings({**config, **solver.implied}, solver.saved_as, steps, eta, start)
    # A last sigma of zero makes intermediate infinities that cancel; what does not cancel is refused below.
    with np.errstate(divide="ignore", invalid="ignore"):
        table = solver.solve(settings)
    if not table.is_finite():
        raise OptionError(
            f"{name} has no finite coefficients for {steps} steps of this checkpoint's noise schedule",
            remedy="Use fewer steps, or another scheduler such as ddim or euler",
            option="steps",
        )
    return table


def scheduler_name(config: Mapping[str, Any]) -> str:
    """Our name of the solver that a scheduler_config.json was saved from. Raises OptionError for one pixrt lacks."""
    saved = config.get("_class_name")
    fitting = {name: solver for name, solver in _SOLVERS.items() if solver.saved_as.name == saved}
    if not fitting:
        known = ", ".join(sorted({solver.saved_as.name for solver in _SOLVERS.values()}))
        raise OptionError(f"the checkpoint's scheduler is {saved}", remedy=f"Known are {known}; or name a --scheduler")
    unsaid = {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}
    for name, solver in fitting.items():
        if all((config.get(key) or unsaid[key]) == value for key, value in solver.implied.items()):
            return name
    raise OptionError(
        f"the checkpoint's scheduler is {saved} with algorithm_type {config.get('algorithm_type')}",
        remedy="Name a --scheduler such as dpmpp_2m",
    )
