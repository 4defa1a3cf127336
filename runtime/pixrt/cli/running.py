"""What the commands that make pictures share: their flags, and running checked jobs with progress."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pixrt.backends.info import BackendOptions, CpuPrecision
from pixrt.backends.registry import backend_choices, check_options
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.cli.console import progress, warn
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.results import Notes, print_estimate, print_failure, print_result, warn_beforehand
from pixrt.errors import OptionError, PixrtError, SomeFailed
from pixrt.files import make_folder
from pixrt_engines.options import Knobs

if TYPE_CHECKING:
    from pixrt.editor.editor import Editor
    from pixrt.editor.events import Failed, Made
    from pixrt.tasks.jobs import Job
    from pixrt.tasks.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How pictures are made, and how that is told; what is made is the command's own business."""

    bundle: Annotated[str, typer.Option("--bundle", "-b", help="A bundle's folder or name.")] = DEFAULT_BUNDLE
    backend: Annotated[
        str, typer.Option(help="auto, or one that `pixrt doctor` lists.", autocompletion=backend_choices)
    ] = "auto"
    threads: Annotated[int | None, typer.Option(help="CPU threads; one per core by default.")] = None
    cpu_precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="OpenVINO: fp32, or bf16 on processors that have it: faster, less exact.",
            autocompletion=lambda: list(get_args(CpuPrecision)),
        ),
    ] = "fp32"
    max_batch: Annotated[int, typer.Option(help="Most pictures that advance together.")] = 4
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Work on larger pictures in overlapping tiles of this side, joined smoothly."
        ),
    ] = None
    fused_step: Annotated[
        bool | None, typer.Option(help="Run the bundle's fused step graph, or do not; TensorRT does where it is there.")
    ] = None
    cuda_graphs: Annotated[bool, typer.Option(help="TensorRT: capture a step, and launch it as one.")] = True
    weight_budget: Annotated[
        int | None, typer.Option(help="TensorRT: MiB of an engine's weights on the device; the rest is streamed.")
    ] = None
    provider_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="For the execution provider of an ort- backend; may be repeated."),
    ] = None
    build_engines: Annotated[
        bool, typer.Option("--build-engines", help="TensorRT: first build the engines that these pictures lack.")
    ] = False
    low_memory: Annotated[bool, typer.Option(help="Close each network when its stage is over.")] = False
    lora: LoraFlag = None
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG, WebP and AVIF quality.")] = 95
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per picture.")] = False
    dry_run: Annotated[bool, typer.Option(help="Check everything and say what would be done, without doing it.")] = (
        False
    )
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no notes.")] = False

    def open(self, *, backend: str | None = None, **changed: Any) -> "Editor":
        """The bundle, opened as the flags say."""
        from pixrt.editor.editor import Editor

        loaded: dict[str, Any] = {
            "max_batch": self.max_batch,
            "tile": self.tile,
            "fused_step": self.fused_step,
            "loras": lora_inputs(self.lora),
        }
        how = {} if backend else self._how() | {"low_memory": self.low_memory}
        return Editor(self.bundle, backend=backend or self.backend, **loaded | how | changed)

    def _how(self) -> dict[str, Any]:
        return {
            "threads": self.threads,
            "cpu_precision": self.cpu_precision,
            "cuda_graphs": self.cuda_graphs,
            "weight_budget_mib": self.weight_budget,
            "provider_options": _pairs(self.provider_option or []),
        }

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

        if self.build_first(jobs):
            return
        with self.open() as editor:
            if not self.quiet:
                warn_beforehand(editor, repeat, earlier or {})
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
                started, notes = time.perf_counter(), Notes(self.quiet)
                # Written as they come: what is done stays done when a later picture fails or Ctrl-C stops the rest.
                for event in self.follow(editor, requests, "making"):
                    if isinstance(event, Failed):
                        fail(event.index, event.error)
                        continue
                    result, target = event.result, targets[event.index]
                    make_folder(target.parent)
                    result.save(target, quality=self.quality)
                    print_result(names[event.index], target, result, self.as_json)
                    notes.add(result)
                notes.tell()
                if not self.quiet and not self.as_json:
                    made = len(jobs) - len(failures)
                    warn(f"{made} made in {time.perf_counter() - started:.2f} s on {editor.backend}")
            if failures:
                raise failures[0] if len(jobs) == 1 else SomeFailed(failures)

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
        return progress(what, hidden=self.hides_progress)

    def build_first(self, jobs: "Sequence[Job]") -> bool:
        """Build the engines that jobs lack, where that is asked for; whether that, as a dry run, was all."""
        if not self.build_engines:
            return False
        from pixrt.cli.build import build_for

        check_options(self.backend, BackendOptions(**self._how()))
        networks = tuple(map(Component, open_bundle(self.bundle, verify=False).manifest.components))
        fused = Component.UNET_STEP in networks and self.fused_step is not False
        # What is wrong with the rest is told before hours are spent.
        with self.open(backend="null", fused_step=self.fused_step or fused) as estimator:
            estimates = estimator.estimate(estimator.check(jobs))
        knobs = Knobs(refittable=bool(self.lora), weight_streaming=self.weight_budget is not None)
        step, unet = Component.UNET_STEP, Component.UNET  # only the second can run on tiles
        loops = {step if fused and estimate.windows == 1 else unet for estimate in estimates}
        components = tuple(name for name in networks if name in loops or name not in (step, unet))
        build_for(self.bundle, self.backend, estimates, components=components, knobs=knobs, dry_run=self.dry_run)
        return self.dry_run


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise OptionError(f"a provider option is {word!r}", remedy="Write it as NAME=VALUE")
        pairs[name] = value
    return pairs
