"""What the commands that make pictures share: their flags, and running checked jobs with progress."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixrt.bundles.manifest import Component
from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.cli.console import warn
from pixrt.cli.embeddings import EmbeddingFlag, embedding_inputs
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.outputs import STREAM
from pixrt.cli.parameters import OUTPUT, TENSORRT
from pixrt.cli.results import Notes, print_estimate, print_failure, print_result, warn_beforehand, warn_of_masks
from pixrt.cli.streams import taken_output, write_output
from pixrt.errors import PixrtError, SomeFailed
from pixrt.options.marking import MarkingOptions
from pixrt.options.session import SessionOptions
from pixrt_engines.options import Knobs

if TYPE_CHECKING:
    from pixrt.editor.editor import Editor
    from pixrt.editor.events import Failed, Made
    from pixrt.pictures.marking import Marking
    from pixrt.tasks.jobs import Job
    from pixrt.tasks.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How pictures are made, and how that is told; what is made is the command's own business."""

    bundle: Annotated[str, typer.Option("--bundle", "-b", metavar="BUNDLE", help="A bundle's folder or name.")] = (
        DEFAULT_BUNDLE
    )
    lora: LoraFlag = None
    embedding: EmbeddingFlag = None
    session: SessionOptions = SessionOptions()  # a flag for each of its options
    marking: MarkingOptions = MarkingOptions()
    build_engines: Annotated[
        bool,
        typer.Option(
            "--build-engines",
            metavar="",
            help="First build the engines that these pictures lack.",
            rich_help_panel=TENSORRT,
        ),
    ] = False
    quality: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="JPEG, WebP and AVIF quality.", rich_help_panel=OUTPUT)
    ] = 95
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON line per picture.", rich_help_panel=OUTPUT)
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            help="Check everything and say what would be done, without doing it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", metavar="", help="Replace files that are there already.", rich_help_panel=OUTPUT),
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar, no notes.", rich_help_panel=OUTPUT)
    ] = False

    def open(self, session: SessionOptions | None = None) -> "Editor":
        """The bundle, opened as the flags say, or as `session` does."""
        from pixrt.editor.editor import Editor

        return Editor(
            self.bundle,
            session or self.session,
            loras=lora_inputs(self.lora),
            embeddings=embedding_inputs(self.embedding),
        )

    def open_marking(self) -> "Marking":
        """What results are marked with, opened before any work; and what is given up for it, said."""
        from pixrt.pictures.marking import Marking

        if self.marking.watermark and not self.quiet:
            warn("the watermark changes pixels everywhere: outside a mask they are not the input's to the byte")
        return Marking.of(self.marking)

    def make(
        self,
        jobs: "Sequence[Job]",
        names: Sequence[str],
        targets: Sequence[Path],
        *,
        earlier: dict[str, Any] | None = None,
        repeat: Path | None = None,
    ) -> None:
        """Check jobs, make their pictures and save them as they come; `names` are what is printed of what went in.

        `earlier` are the parameters in the picture that is repeated.
        """
        from pixrt.editor.events import Failed

        marking = self.open_marking()
        with ExitStack() as stack:
            stream = stack.enter_context(taken_output()) if targets[0] == STREAM else None
            if self.build_first(jobs):
                return
            editor = stack.enter_context(self.open())
            if not self.quiet:
                warn_beforehand(editor, repeat, earlier or {})
                warn_of_masks(jobs)
            failures: list[PixrtError] = []

            def fail(index: int, error: PixrtError) -> None:
                failures.append(error)
                print_failure(names[index], error, self.as_json, several=len(jobs) > 1)

            requests = editor.check(jobs, on_refused=fail)
            if self.dry_run:
                for estimate in editor.estimate(requests):
                    index = estimate.request.index
                    print_estimate(names[index], targets[index], estimate, editor.loras, self.as_json)
            else:
                started, notes = time.perf_counter(), Notes(self.quiet, earlier)
                # Written as they come: what is done stays done when a later picture fails or Ctrl-C stops the rest.
                for event in self.follow(editor, requests, "making"):
                    if isinstance(event, Failed):
                        fail(event.index, event.error)
                        continue
                    result, target = event.result, targets[event.index]
                    how: dict[str, Any] = {
                        "quality": self.quality,
                        "marking": marking,
                        "source": jobs[event.index].image,
                    }
                    if stream is not None:
                        write_output(stream, result.to_bytes("png", **how))
                    else:
                        result.save(target, **how, overwrite=self.overwrite)
                    print_result(names[event.index], target, result, self.as_json)
                    notes.add(result, target)
                notes.tell()
                if not self.quiet and not self.as_json:
                    made = len(jobs) - len(failures)
                    warn(f"{made} made in {time.perf_counter() - started:.2f} s on {editor.backend}")
            if failures:
                raise failures[0] if len(jobs) == 1 else SomeFailed.of(failures)

    def follow(self, editor: "Editor", requests: "Sequence[Request]", what: str) -> "Iterator[Made | Failed]":
        """Make pictures, with a bar that counts their steps."""
        from pixrt.editor.events import Stepped

        done, total = 0, sum(estimate.steps for estimate in editor.estimate(requests))
        with self.progress(what) as show, editor.events(requests, steps=not self.hides_progress) as run:
            for event in run:
                if isinstance(event, Stepped):
                    done += 1
                    show(done, total)
                else:
                    yield event

    @property
    def hides_progress(self) -> bool:
        """Whether nobody sees a bar."""
        return self.quiet or self.as_json

    def progress(self, what: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A bar on standard error, where that is a terminal and wanted."""
        if self.hides_progress or sys.stderr is None or not sys.stderr.isatty():
            return nullcontext(lambda done, total: None)
        from pixrt.cli.display import progress

        return progress(what)

    def build_first(self, jobs: "Sequence[Job]") -> bool:
        """Build the engines that jobs lack, where that is asked for; whether that, as a dry run, was all."""
        if not self.build_engines:
            return False
        from pixrt.backends.registry import check_options
        from pixrt.cli.build import build_for

        session = self.session
        check_options(session.backend, session)
        manifest = open_bundle(self.bundle, verify=False).manifest
        networks = tuple(Component(name) for name in manifest.components if name != Component.UNET_SHALLOW)
        fused = Component.UNET_STEP in networks and session.fused_step is not False
        # What is wrong with the rest is told before hours are spent.
        estimating = SessionOptions(
            backend="null",
            max_batch=session.max_batch,
            tile=session.tile,
            fused_step=session.fused_step or fused,
        )
        with self.open(estimating) as estimator:
            estimates = estimator.estimate(estimator.check(jobs))
        knobs = Knobs(refittable=bool(self.lora), weight_streaming=session.weight_budget_mib is not None)
        step, unet = Component.UNET_STEP, Component.UNET  # only the second can run on tiles
        loops = {step if fused and estimate.windows == 1 else unet for estimate in estimates}
        components = tuple(name for name in networks if name in loops or name not in (step, unet))
        build_for(self.bundle, session.backend, estimates, components=components, knobs=knobs, dry_run=self.dry_run)
        return self.dry_run
