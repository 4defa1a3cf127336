"""`pixrt batch`: one instruction, or a table of them, on a gallery; goes on where it was stopped."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixrt.apps.entries import Entry, count_entries, read_entries
from pixrt.apps.tables import TABLES
from pixrt.cli.console import say, warn
from pixrt.cli.display import errors
from pixrt.cli.embeddings import embedding_inputs
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import lora_inputs
from pixrt.cli.outputs import require_writable, split_text
from pixrt.cli.parameters import OUTPUT, with_arguments_of, with_flags
from pixrt.cli.results import Notes, result_facts, warn_beforehand
from pixrt.cli.running import Running
from pixrt.errors import OptionError, OutputError, PixrtError
from pixrt.options.ray import ShareOptions
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions, draw_seed
from pixrt.pictures.formats import READABLE_SUFFIXES, WRITABLE_SUFFIXES

_NAMED = 5  # files of each kind, in a note

if TYPE_CHECKING:
    from pixrt.apps.gallery import Outcome
    from pixrt.editor.editor import Editor
    from pixrt.ray.crew import Crew


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryRunning(Running):
    """As for a few pictures, with larger batches."""

    session: SessionOptions = SessionOptions(max_batch=8)


@with_arguments_of(GalleryRunning, "running")
@with_flags(ShareOptions, "share")
@with_flags(EditOptions)
def batch(
    sources_and_instruction: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... INSTRUCTION",
            help="Folders, patterns, pictures, tables (.jsonl, .csv, .tsv); then the instruction: tables may hold it.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="The folder of the results, and of their journal.",
            rich_help_panel=OUTPUT,
        ),
    ],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", metavar="", help="Edit again what failed before; else it is left out.")
    ] = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            metavar="",
            help="Make the pictures on Ray: on the cluster that RAY_ADDRESS names, else on one of this machine.",
            rich_help_panel="Ray",
        ),
    ] = False,
    *,
    running: Running,
    parameters: dict[str, Any],
    share: dict[str, Any],
) -> None:
    """Edit a gallery, by one instruction or a table of them; the same command goes on where it stopped."""
    from pixrt.apps.gallery import Gallery
    from pixrt.apps.journal import earlier_seed, open_journal

    sources: list[str] = sources_and_instruction
    instruction: str | None = None
    if not all(word.lower().endswith(TABLES) for word in sources):
        sources, instruction = split_text(sources, (*READABLE_SUFFIXES, *TABLES))
    if output.is_file() or output.suffix.lower() in WRITABLE_SUFFIXES:
        raise OptionError(f"{output} is a file's name, and there are many results", remedy="Give a folder with -o")
    require_writable(output)
    if share and not ray:
        raise OptionError(f"{next(iter(share))} is for several makers", remedy="Say --ray", option=next(iter(share)))
    if ray:
        require_packages("ray", extra="ray", purpose="a gallery on Ray")
    if running.build_engines:
        raise OptionError("a gallery's sizes are not known beforehand", remedy="Build engines with `pixrt build`")
    if parameters.get("seed") is None:
        seed = earlier_seed(output)
        parameters["seed"] = draw_seed() if seed is None else seed

    passed: list[Path] = []

    def entries(on_passed: Callable[[Path], None] = lambda path: None) -> Iterator[Entry]:
        return read_entries(sources, instruction, parameters, output, on_passed=on_passed)

    marking = running.open_marking()
    with errors.status("looking at the gallery"):
        total = count_entries(entries(passed.append), output)
    if passed and not running.quiet:
        names = ", ".join(path.name for path in passed[:_NAMED])
        more = f" and {len(passed) - _NAMED} more" if len(passed) > _NAMED else ""
        warn(f"{len(passed)} pictures of formats that are not read are left out: {names}{more}")
    with running.open() as editor:
        if not running.quiet:
            warn_beforehand(editor)
        has_table = any(word.lower().endswith(TABLES) for word in sources)
        _check(editor, instruction, parameters, may_have_masks=has_table)
        job = _job(editor, instruction, parameters, running)
        if running.dry_run:
            say(json.dumps({"pictures": total, "job": job}) if running.as_json else f"{total} pictures to {output}")
            return
        with (
            open_journal(output, job, overwrite=running.overwrite) as journal,
            _crew(editor, running, ShareOptions(**share)) if ray else nullcontext(editor) as runner,
        ):
            gallery = Gallery(
                runner,
                output,
                journal,
                max_batch=running.session.max_batch,
                quality=running.quality,
                marking=marking,
                retry_failed=retry_failed,
                overwrite=running.overwrite,
            )
            tally = _Tally(running, total, output)
            with tally.bar:
                for outcome in gallery.run(entries()):
                    tally.tell(outcome)
    tally.finish()


@contextmanager
def _crew(editor: "Editor", running: Running, share: ShareOptions) -> Iterator["Crew"]:
    """The makers on a Ray cluster."""
    from pixrt.ray.clusters import cluster
    from pixrt.ray.crew import Crew, Opening

    loras, embeddings = lora_inputs(running.lora), embedding_inputs(running.embedding)
    opening = Opening(running.bundle, running.session, loras, embeddings)
    with cluster(), Crew(editor, opening, share, running.session.max_batch) as crew:
        yield crew


class _Tally:
    """Counts outcomes and tells of them: a bar, a line each, and the sum."""

    def __init__(self, running: Running, total: int, output: Path) -> None:
        self._running, self._output = running, output
        hidden = running.quiet or running.as_json or not errors.is_terminal
        columns = (
            *(TextColumn("editing"), BarColumn(), MofNCompleteColumn()),
            *(TextColumn("{task.fields[rate]:.2f} pictures/s"), TimeRemainingColumn()),
        )
        self.bar = Progress(*columns, console=errors, disable=hidden, transient=True)
        self._task = self.bar.add_task("editing", total=total, rate=0.0)
        self._done = self._failed = self._skipped = 0
        self._refused: list[PixrtError] = []
        self._notes = Notes(running.quiet)
        self._started = time.perf_counter()

    def tell(self, outcome: "Outcome") -> None:
        """One more."""
        self._skipped += outcome.skipped and outcome.state == "done"
        self._failed += outcome.state == "failed"
        if outcome.result is not None:
            self._done += 1
            self._notes.add(outcome.result, outcome.target)
        if outcome.replaced and not self._running.quiet:
            warn(f"{outcome.target} is made anew: {outcome.replaced}")
        if outcome.state == "refused" and outcome.error is not None:
            self._refused.append(outcome.error)
        if outcome.error is not None and not self._running.as_json:
            name, told = outcome.entry.name, str(outcome.error)
            warn(told if name in told else f"{name}: {told}")
        if self._running.as_json and not outcome.skipped:
            say(json.dumps(_facts(outcome)))
        self.bar.update(self._task, advance=1, rate=self._done / (time.perf_counter() - self._started))

    def finish(self) -> None:
        """The sum. Raises PixrtError where pictures failed, now or before."""
        seconds = time.perf_counter() - self._started
        self._notes.tell()
        if not self._running.quiet:
            warn(
                f"{self._done} edited in {seconds:.2f} s ({self._done / seconds:.2f} pictures/s),"
                f" {self._skipped} finished before, {self._failed} failed"
                + (f", {len(self._refused)} not made" if self._refused else "")
                + f"; results and journal are in {self._output}"
            )
        if self._refused:
            raise OutputError(
                f"{len(self._refused)} results were not made: {self._refused[0].problem}",
                remedy=self._refused[0].remedy,
            )
        if self._failed:
            raise PixrtError(
                f"{self._failed} pictures failed: the journal in the output folder says why",
                remedy="Mend them, and call again with --retry-failed",
            )


def _facts(outcome: "Outcome") -> dict[str, Any]:
    facts: dict[str, Any] = {"input": outcome.entry.name, "state": outcome.state}
    if outcome.error is not None:
        return facts | {"error": str(outcome.error)}
    result = outcome.result
    assert result is not None
    return facts | result_facts(outcome.target, result)


def _check(editor: "Editor", instruction: str | None, parameters: dict[str, Any], *, may_have_masks: bool) -> None:
    """Check, on a picture of nothing, what all pictures have in common: it would fail for each of them."""
    import numpy as np

    from pixrt.tasks.jobs import Job

    side = editor.manifest.native_resolution
    common = {name: value for name, value in parameters.items() if not (may_have_masks and name.startswith("mask_"))}
    probe = np.zeros((side, side, 3), np.uint8)
    editor.estimate(editor.check([Job(options=EditOptions(**common), image=probe, text=instruction or "")]))


def _job(editor: "Editor", instruction: str | None, parameters: dict[str, Any], running: Running) -> dict[str, Any]:
    """What the results depend on beside the pictures."""
    from pixrt.editor.result import lora_parameters

    options = EditOptions(**parameters).resolve(editor.manifest.defaults, editor.levers)
    return {
        "model_sha256": editor.manifest.source.sha256,
        "precision": editor.manifest.precision,
        "native_resolution": editor.manifest.native_resolution,
        **lora_parameters(editor.loras),
        "instruction": instruction,
        "options": dataclasses.asdict(options),
        "quality": running.quality,
        **({"watermark": True} if running.marking.watermark else {}),
        **({"tile": editor.tile} if editor.tile is not None else {}),
    }
