"""A track: all that one picture does, decided before it runs. Nothing about it depends on the pictures beside it.

The one encoding of a step: for a picture with the state x, its network outputs and its stored predictions p,

    network's input = input_scale * x
    output   = sum over branches of guidance * network output of the branch
    stored   = store_x * x + store_output * output
    moved    = x_coefficient * x + output_coefficient * output + noise_coefficient * noise + sum_k history_k * p_k
    x'       = (1 - loss * where) * moved
               + where * (anchor_alpha * anchor + anchor_sigma * anchor_noise + anchor_denoised * denoised)
    denoised = denoised_x * x + denoised_output * output

with a row of `TABLE` for every step, whatever the solver (`maths.solvers.table` fills them). Letters: N steps, C
latent channels, h x w latents. Must not import a backend.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.core.conditioning import Conditioning, Latents
from pixrt.maths.guidance import Branch, guidance_weights, in_window
from pixrt.maths.noise import draw_noise
from pixrt.maths.reuse import Branches, computed_branches, shallow_branches, without
from pixrt.maths.solvers import build_table
from pixrt.maths.solvers.table import StepTable
from pixrt.options.tasks import Options

DEPTH = 4  # stored predictions that a picture keeps: as many as PNDM looks back on
COLUMNS = (
    *("input_scale", "x", "output", "noise", "store_x", "store_output", "denoised_x", "denoised_output"),
    *("loss", "anchor_alpha", "anchor_sigma", "anchor_denoised"),
    *(f"history_{k}" for k in range(DEPTH)),
)
GUIDANCE = tuple(f"guidance_{branch.name.lower()}" for branch in Branch)
TABLE = (*COLUMNS, *GUIDANCE, "timestep")
_KEPT = 256  # steps that are remembered: the pictures of a gallery mostly have the same


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What options and the checkpoint's noise schedule say of a picture's steps; the same for every picture of them.

    Attributes:
        table: the solver's, N network calls.
        rows: float32 `[N, TABLE]`: coefficients, guidance, and the timestep that the network is told.
        branches: of each step those that are computed: a branch whose weight is zero is not.
        held: of each step those whose last prediction, by its difference, is used again (see `maths.reuse`).
        shallow: of each step's `branches` those that only the shallow network runs, on what the deep ones made.
    """

    table: StepTable
    rows: NDArray[np.float32]
    branches: tuple[Branches, ...]
    held: tuple[Branches, ...]
    shallow: tuple[Branches, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def coefficients(self) -> NDArray[np.float32]:
        """`[N, COLUMNS]`."""
        return self.rows[:, : len(COLUMNS)]

    @property
    def guidance(self) -> NDArray[np.float32]:
        """The branches' weights, `[N, 3]`."""
        return self.rows[:, len(COLUMNS) : -1]

    @property
    def evaluations(self) -> int:
        """Network evaluations of all steps, those of the shallow network among them."""
        return sum(map(len, self.branches))

    @property
    def shallow_evaluations(self) -> int:
        """Evaluations of the shallow network of all steps."""
        return sum(map(len, self.shallow))

    @property
    def calls(self) -> int:
        """Calls of a network that all steps take: a step in which only some branches are shallow takes two."""
        pairs = zip(self.branches, self.shallow, strict=True)
        return sum((len(shallow) < len(branches)) + bool(shallow) for branches, shallow in pairs)

    @property
    def holds(self) -> bool:
        """Whether predictions are used again at any step."""
        return any(self.held)

    @property
    def caches(self) -> bool:
        """Whether the shallow network runs at any step."""
        return any(self.shallow)

    @property
    def most_branches(self) -> int:
        """Rows of the step that has most."""
        return max(map(len, self.branches))

    @property
    def draws(self) -> int:
        """Draws of noise beside the initial one: one per call if the solver adds noise at any, else none."""
        return len(self) if self.table.noise.any() else 0


def make_steps(options: Options, scheduler: Mapping[str, Any]) -> Steps:
    """The steps of resolved options, for a checkpoint's scheduler config; linear in number. Raises OptionError."""
    assert options.scheduler is not None
    assert options.steps is not None
    solver = options.scheduler, json.dumps(scheduler, sort_keys=True), options.steps, options.eta, options.start
    intervals = options.branch_interval or 1, options.cache_interval or 1
    return _steps(solver, options.scales, options.guidance_interval, options.steering, intervals)


@lru_cache(_KEPT)
def _table(solver: tuple[str, str, int, float, int]) -> StepTable:
    name, config, steps, eta, start = solver
    return build_table(name, json.loads(config), steps, eta=eta, start=start)


@lru_cache(_KEPT)
def _steps(
    solver: tuple[str, str, int, float, int],
    scales: tuple[float, float],
    interval: tuple[float, float],
    steering: tuple[float, tuple[float, float]] | None,
    intervals: tuple[int, int],
) -> Steps:
    table = _table(solver)
    steer = None if steering is None else np.where(in_window(len(table), steering[1]), steering[0], 0.0)
    return steps_of(table, guidance_weights(len(table), *scales, interval), steer, *intervals)


def steps_of(
    table: StepTable,
    weights: NDArray[np.float64],
    steer: NDArray[np.float64] | None = None,
    branch_interval: int = 1,
    cache_interval: int = 1,
) -> Steps:
    """The steps of a solver's table with the guidance `weights` `[N, 3]`.

    `steer` `[N]` is how far the clean latents that each step predicts are moved to the anchor; None if anchors hold the
    state. The intervals are those of `maths.reuse`: of predictions, and of features.
    """
    guidance = weights.astype(np.float32)
    runs = {tuple(row) for row in (guidance != 0).tolist()}
    named = {row: tuple(branch for branch in Branch if row[branch]) for row in runs}
    rows = np.column_stack((coefficient_rows(table, steer), guidance, table.timesteps.astype(np.float32)))
    running = tuple(named[tuple(row)] for row in (guidance != 0).tolist())
    branches = computed_branches(running, branch_interval)
    held = tuple(without(*each) for each in zip(running, branches, strict=True))
    return Steps(table, rows, branches, held, shallow_branches(branches, cache_interval))


def coefficient_rows(table: StepTable, steer: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """The coefficients `[N, COLUMNS]` of a solver's table, with those of anchors.

    Held: x' <- x' - where (x' - alpha' anchor - sigma' noise). Steered by w: x' <- x' + where w alpha' (anchor - x0),
    where x0 is what the step predicts: noise that the solver has added since stays what it is, so the level stays the
    solver's, which it would not if the noise of the beginning were mixed with it.
    """
    alpha, sigma = np.append(table.alpha[1:], 1.0), np.append(table.sigma[1:], 0.0)  # of the state after each step
    none, held = np.zeros(len(table)), np.ones(len(table))
    if steer is None:
        anchors = {"loss": held, "anchor_alpha": alpha, "anchor_sigma": sigma, "anchor_denoised": none}
    else:
        moved = steer * alpha
        anchors = {"loss": none, "anchor_alpha": moved, "anchor_sigma": none, "anchor_denoised": -moved}
    rows = np.zeros((len(table), len(COLUMNS)), np.float32)
    for column, name in enumerate(COLUMNS):
        if name.startswith("history_"):
            ago = int(name.removeprefix("history_"))
            rows[:, column] = table.history[:, ago] if ago < table.depth else 0.0
        else:
            rows[:, column] = anchors[name] if name in anchors else getattr(table, name)
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One picture's run, which can be begun again and gives the same picture.

    Attributes:
        start: the state before the first step, float32 `[C, h, w]`.
        conditioning: what it is conditioned on.
        initial_noise: the first draw of its seed, which anchors are noised with.
    """

    steps: Steps
    seed: int
    start: Latents
    initial_noise: Latents
    conditioning: Conditioning

    def __len__(self) -> int:
        return len(self.steps)

    def draw(self, out: NDArray[np.float32]) -> None:
        """Write the noise of every step, `[draws, C, h, w]`, in diffusers' order: after the initial draw, one per step.

        It comes from the picture's own seed, so it does not depend on the pictures beside it.
        """
        draw_noise(self.seed, out, skip=1)


def make_track(steps: Steps, seed: int, conditioning: Conditioning, shape: tuple[int, int, int]) -> Track:
    """The track of a picture of `shape` (C, h, w) latents: it begins with noise, or with noised clean latents."""
    noise = np.empty((1, *shape), np.float32)
    draw_noise(seed, noise)
    table, (first,) = steps.table, noise
    if conditioning.initial is None:
        start = first * np.float32(table.initial_scale)
    else:
        start = conditioning.initial * np.float32(table.alpha[0]) + first * np.float32(table.sigma[0])
    return Track(steps, seed, start, first, conditioning)
