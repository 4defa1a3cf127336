"""The same edits on several backends in turn, so that what else a machine does falls on all of them.

Timed by `bench`. Must not import a backend.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from pixrt.apps.bench import Timed, picture, timed_edit
from pixrt.editor.editor import Editor
from pixrt.errors import BackendError
from pixrt.options.choices import CpuPrecision
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions
from pixrt.tasks.jobs import Job

SCALES = {1: (1.0, 1.0), 2: (2.0, 1.0), 3: (2.0, 1.5)}  # of guidance, by the branches that run with them
MOST_ROUNDS = 3  # of steps by their rows: each edit gives several


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend, and what it computes in."""

    backend: str
    precision: CpuPrecision


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured of a candidate.

    Attributes:
        first: the edit that opened the networks; of the same picture and instruction for all.
        edits: the edits that count, one for every round.
        steps_ms: milliseconds of steps by how many pictures advanced together, and
        rows: the most rows of such a step.
        default_steps: how many steps an edit has by the bundle's default.
        whole_ms, shallow_ms: milliseconds of steps by how many rows they have, of the whole and of the shallow network.
    """

    candidate: Candidate
    first: Timed
    default_steps: int
    edits: list[Timed] = field(default_factory=list)
    steps_ms: dict[int, list[float]] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    whole_ms: dict[int, list[float]] = field(default_factory=dict)
    shallow_ms: dict[int, list[float]] = field(default_factory=dict)

    @property
    def beside_ms(self) -> float:
        """What an edit is beside its steps, the median."""
        return statistics.median(edit.ms["edit"] - edit.ms["denoise"] for edit in self.edits)

    @property
    def edits_ms(self) -> list[float]:
        """The bundle's default edit as every round has it: what is beside the steps, and the default's steps."""
        return [
            edit.ms["edit"] - edit.ms["denoise"] + self.default_steps * statistics.median(edit.steps_ms)
            for edit in self.edits
        ]

    def levels_from(self, other: "Trial") -> int:
        """How far the first picture is from that of another, in levels of 255."""
        ours, theirs = (np.asarray(each.first.result.image, np.int16) for each in (self, other))
        return int(np.abs(ours - theirs).max())


def compare(
    bundle: str,
    candidates: Sequence[Candidate],
    options: EditOptions,
    size: int,
    session: SessionOptions,
    *,
    rounds: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_missing: Callable[[Candidate, BackendError], None] = lambda candidate, error: None,
) -> list[Trial]:
    """Edit with each candidate in turn, `rounds` times; then several pictures at once, up to `session.max_batch`.

    All are open at once. Whoever cannot be opened is told by `on_missing`. An edit must have two steps at least.
    """
    each = 1 + rounds + session.max_batch - 1 + len(SCALES)
    total = len(candidates) * each
    done = iter(range(1, total + 1))
    with ExitStack() as stack:
        opened: list[tuple[Editor, Trial]] = []
        for candidate in candidates:
            chosen = dataclasses.replace(session, backend=candidate.backend, cpu_precision=candidate.precision)
            try:
                editor = stack.enter_context(Editor(bundle, chosen))
            except BackendError as error:
                on_missing(candidate, error)
                total -= each
                continue
            first = timed_edit(editor, options, size, 0)
            opened.append((editor, Trial(candidate, first, editor.manifest.defaults.steps)))
            on_progress(next(done), total)
        for number in range(1, rounds + 1):
            for editor, trial in _turned(opened, number):
                trial.edits.append(timed_edit(editor, options, size, number))
                trial.steps_ms.setdefault(1, []).extend(trial.edits[-1].steps_ms)
                on_progress(next(done), total)
        for together in range(2, session.max_batch + 1):
            for editor, trial in _turned(opened, together):
                timed = timed_edit(editor, options, size, together, together=together)
                if timed.steps_ms:  # else so many do not fit together
                    trial.steps_ms[together] = list(timed.steps_ms)
                on_progress(next(done), total)
        for rows in SCALES:
            for editor, trial in _turned(opened, rows):
                _time_rows(editor, trial, rows, options, size, rounds)
                on_progress(next(done), total)
        for editor, trial in opened:
            branches = _branches(editor, options, size)
            trial.rows.update({together: together * branches for together in trial.steps_ms})
    return [trial for _, trial in opened]


def _time_rows(editor: Editor, trial: Trial, rows: int, options: EditOptions, size: int, rounds: int) -> None:
    """Steps of one picture with so many rows, of the whole network, and of the shallow one where it runs."""
    scale, image_scale = SCALES[rows]
    whole = dataclasses.replace(options, guidance_scale=scale, image_guidance_scale=image_scale)
    kinds = [(trial.whole_ms, whole)]
    if "cache_interval" in editor.levers:  # every step but the first, which is not among the timed ones
        kinds.append((trial.shallow_ms, dataclasses.replace(whole, cache_interval=1000)))
    for kept, given in kinds:
        timed_edit(editor, given, size, 0)  # arrays for so many rows, the network that was not open yet
        for number in range(1, min(rounds, MOST_ROUNDS) + 1):
            kept.setdefault(rows, []).extend(timed_edit(editor, given, size, number).steps_ms)


def _turned(opened: list[tuple[Editor, Trial]], number: int) -> Iterator[tuple[Editor, Trial]]:
    """Whoever comes first differs from round to round."""
    at = number % len(opened) if opened else 0
    yield from (*opened[at:], *opened[:at])


def _branches(editor: Editor, options: EditOptions, size: int) -> int:
    (estimate,) = editor.estimate(editor.check([Job(options=options, text="make it winter", image=picture(size, 0))]))
    return max(estimate.branches)
