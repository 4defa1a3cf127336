"""`pixrt tune`: which of the CPU's backends is the fastest for a bundle here, and what its edits cost by their rows."""

import dataclasses
import datetime
import statistics
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixrt.backends import tuned
from pixrt.backends.registry import ON_CPU, circumstances_of
from pixrt.bundles.store import open_bundle
from pixrt.cli.console import say, warn
from pixrt.cli.display import add_row, print_table, progress
from pixrt.cli.measuring import ABundle, AJsonFile, AnOverwrite
from pixrt.cli.outputs import require_figures, write_json
from pixrt.cli.parameters import with_session
from pixrt.errors import BackendError
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions

if TYPE_CHECKING:
    from pixrt.apps.tune import Trial

MOST_LEVELS = 1  # of 255, by which an exact backend's picture may differ: rounding


@with_session(SessionOptions(), ("threads", "max_batch"))
def tune(
    bundle: ABundle,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", min=32, max=4096, help="Side of the pictures; the bundle's own size by default."),
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Edits of each backend that count.")] = 5,
    steps: Annotated[int, typer.Option(metavar="N", min=2, max=1000, help="Steps of an edit that is measured.")] = 4,
    json_file: AJsonFile = None,
    overwrite: AnOverwrite = False,
    *,
    session: SessionOptions,
) -> None:
    """Measure the CPU's backends on a bundle's default edit, in turn, and keep which is fastest for `--backend auto`.

    Also what steps of one to three rows take, of the whole network and the shallow one, for `--budget-ms`.

    Those that are not exact, such as BF16, are measured and never taken by auto. All are open at once.
    """
    require_figures(json_file, overwrite=overwrite)
    from pixrt.apps.tune import Candidate, compare

    opened = open_bundle(bundle, verify=session.verify)
    size = size or opened.manifest.native_resolution
    candidates = [Candidate(info.name, "fp32") for info in ON_CPU]
    candidates += [Candidate(info.name, "bf16") for info in ON_CPU if "cpu_precision" in info.options]

    def on_missing(candidate: Candidate, error: BackendError) -> None:
        warn(f"{candidate.backend} in {candidate.precision.upper()} is not measured: {error}")

    with progress("measuring") as on_progress:
        trials = compare(
            bundle,
            candidates,
            EditOptions(seed=0, resolution=size, steps=steps),
            size,
            session,
            rounds=rounds,
            on_progress=on_progress,
            on_missing=on_missing,
        )
    if not trials:
        raise BackendError("no backend of the CPU opens here", remedy="See `pixrt doctor`")
    tuning = tuned.Tuning(
        circumstances=circumstances_of(opened, session.threads),
        size=size,
        made=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        measured=tuple(_measured(trial, trials[0]) for trial in trials),
    )
    tuned.keep(tuning)
    if json_file is not None:
        write_json(json_file, _facts(tuning), overwrite=overwrite)
    _print(tuning, trials[0].default_steps)


def _measured(trial: "Trial", first: "Trial") -> tuned.Measured:
    from pixrt.apps.bench import Spread

    edit, levels = Spread.of(trial.edits_ms), trial.levels_from(first)
    curve = {together: Spread.of(steps) for together, steps in trial.steps_ms.items()}
    return tuned.Measured(
        backend=trial.candidate.backend,
        precision=trial.candidate.precision,
        edit_ms=edit.p50,
        least_ms=edit.least,
        most_ms=edit.most,
        levels=levels,
        is_exact=trial.candidate.precision == "fp32" and levels <= MOST_LEVELS,
        curve=tuple(
            tuned.Curve(
                pictures=together,
                rows=trial.rows[together],
                p50_ms=spread.p50,
                least_ms=spread.least,
                most_ms=spread.most,
            )
            for together, spread in curve.items()
        ),
        cost=tuned.EditCost(
            beside_ms=trial.beside_ms,
            whole_ms=_medians(trial.whole_ms),
            shallow_ms=_medians(trial.shallow_ms),
        ),
    )


def _medians(by_rows: dict[int, list[float]]) -> tuple[float, ...]:
    return tuple(statistics.median(by_rows[rows]) for rows in sorted(by_rows))


def _facts(tuning: tuned.Tuning) -> dict[str, Any]:
    """As JSON, without a path."""
    facts = dataclasses.asdict(tuning)
    del facts["circumstances"]["folder"]
    return {**facts, "auto": list(tuning.order)}


def _print(tuning: tuned.Tuning, steps: int) -> None:
    edits = Table(
        "backend", "precision", f"an edit of {steps} steps, ms", "least", "most", "levels off", "auto", box=None
    )
    curves = Table("backend", "precision", "pictures", "rows", "a step, ms", "least", "most", box=None)
    for each in tuning.measured:
        figures = (f"{figure:.1f}" for figure in (each.edit_ms, each.least_ms, each.most_ms))
        taken = (
            "takes it" if tuning.order[:1] == (each.backend,) and each.is_exact else "" if each.is_exact else "never"
        )
        add_row(edits, each.backend, each.precision, *figures, each.levels, taken)
        for point in each.curve:
            figures = (f"{figure:.1f}" for figure in (point.p50_ms, point.least_ms, point.most_ms))
            add_row(curves, each.backend, each.precision, point.pictures, point.rows, *figures)
    costs = Table("backend", "precision", "network", "a step of 1 row, ms", "2 rows", "3 rows", "beside, ms", box=None)
    for each in tuning.measured:
        assert each.cost is not None
        beside = f"{each.cost.beside_ms:.1f}"
        for name, ms in (("whole", each.cost.whole_ms), ("shallow", each.cost.shallow_ms)):
            if ms:
                add_row(costs, each.backend, each.precision, name, *(f"{one:.1f}" for one in ms), beside)
    for table in (edits, curves, costs):
        print_table(table)
        say("")
    say(
        f"Kept in {tuned.place()}; --backend auto and --budget-ms go by it as long as the bundle, the"
        " libraries and this machine stay"
    )
