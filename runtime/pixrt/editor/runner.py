"""A bundle opened once on one backend, that makes the pictures of jobs. Must not import a backend."""

import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self, Unpack

from pixrt.backends.protocol import EngineMemory
from pixrt.backends.registry import open_backend
from pixrt.bundles.manifest import Component, LoraSpec, Manifest
from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.networks import Networks
from pixrt.core.pipeline import LoopState
from pixrt.core.plan import Schedule, make_schedule
from pixrt.core.timing import Stopwatch
from pixrt.core.windows import Work
from pixrt.editor.result import EditResult, Estimate, OnStep, Progress
from pixrt.editor.stages import latents_size, run_batch
from pixrt.errors import PixrtError
from pixrt.lora.merging import LoraInput, LoraSet, load_loras, replacements, require_own_weights
from pixrt.lora.weights import WeightTable, read_table
from pixrt.maths.tiles import check_tile
from pixrt.options.parameters import SessionParameters
from pixrt.options.session import SessionOptions
from pixrt.pictures.geometry import MAX_PIXELS, MAX_WORKING_PIXELS
from pixrt.pictures.inputs import Styles
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request, form_batches, make_requests
from pixrt.tasks.tasks import require


class Runner:
    """A bundle, opened and checked, on one backend.

    Networks are opened at the first edit that needs them and kept; so are the loop's arrays (per shape and batch), the
    embeddings of recent instructions and the latents of recent pictures. Calls from several threads take turns.

    Args:
        bundle: a bundle's folder, or a name that `pixrt models` lists.
        options: how it is opened; what is given by name comes first: `Editor("bundle", backend="ort-cpu", threads=4)`.
        loras: LoRA files, or pairs of a file and a scale: see `set_loras`.

    Raises BundleError, BackendError, OptionError, LoraError.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
        options: SessionOptions | None = None,
        *,
        loras: Sequence[LoraInput] = (),
        **session: Unpack[SessionParameters],
    ) -> None:
        options = dataclasses.replace(options or SessionOptions(), **session)
        self._bundle = open_bundle(bundle, verify=options.verify)
        check_tile(options.tile, self.manifest.size_multiple, self.manifest.vae_scale)
        self.tile = options.tile
        self._tokenizer = Tokenizer(self._bundle.folder, self._bundle.manifest.tokenizer)
        self._max_batch = options.max_batch
        self._lock = threading.Lock()
        self._editing: int | None = None  # the thread whose turn it is
        self._closed = False
        self._loras = LoraSet((), {}, {})
        opened = open_backend(options.backend, self._bundle, options)
        self._backend, self.passed_over = opened.backend, opened.passed_over
        try:
            self._networks = Networks(
                self._bundle,
                self._backend,
                low_memory=options.low_memory,
                fused_step=options.fused_step,
                tile=options.tile,
            )
            self.set_loras(loras)
        except BaseException:
            self._backend.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself: native resolution, defaults, notice and the rest."""
        return self._bundle.manifest

    @property
    def backend(self) -> str:
        """The backend in use; `passed_over` tells the faster ones that "auto" could not open, and why."""
        return self._backend.name

    @property
    def memory(self) -> tuple[EngineMemory, ...]:
        """Device memory of the engines that are open; empty where networks run in the host's memory."""
        return self._backend.memory()

    @property
    def loras(self) -> tuple[LoraSpec, ...]:
        """The LoRAs in use, in the order they were given."""
        return self._loras.specs

    def set_loras(self, loras: Sequence[LoraInput]) -> None:
        """Use these LoRAs in place of those in use, from the next batch on; none of them for an empty list.

        The networks that a LoRA comes to or goes from are opened again when they are next needed, with weights merged
        as `pixrt export --lora` merges them; nothing is left of earlier ones. What is wrong leaves all as it was.

        Raises LoraError for a file that does not fit, BundleError for a bundle of a version that cannot take LoRAs,
        EngineError for TensorRT engines that were not built to take other weights.
        """
        new = LoraSet((), {}, {})
        table = read_table(self._bundle) if loras or self._loras.specs else {}
        if loras:
            named = {part: places for part, places in table.items() if part != Component.UNET_STEP}
            shapes = {part: {name: place.parameter_shape for name, place in named[part].items()} for part in named}
            new = load_loras(loras, shapes, f"the bundle {self.manifest.name!r}")
            require_own_weights(new, table)
        with self._turn():
            try:
                self._replace(self._loras, new, table)
            except BaseException:
                self._replace(new, self._loras, table)
                raise
            self._loras = new

    def _replace(self, old: LoraSet, new: LoraSet, table: WeightTable) -> None:
        for component in Component:
            if new.of(component) != old.of(component):
                given = new.factors.get(component)
                for network in self._networks.running(component):
                    places = table.get(network, {})
                    weights = partial(replacements, self._bundle.folder, places, given) if given else None
                    self._networks.replace(network, weights)

    def check(self, jobs: Sequence[Job]) -> list[Request]:
        """Check jobs before any network runs: texts, options, whether they fit the bundle, and the pictures' headers.

        Raises OptionError, PictureError, BundleError.
        """
        for job in jobs:
            require(job, self.manifest, self._loras.specs)
        most = MAX_WORKING_PIXELS if self.tile is None else MAX_PIXELS
        return make_requests(jobs, self.manifest, self._tokenizer, most_pixels=most)

    def run(self, requests: Sequence[Request], *, on_step: OnStep | None = None) -> Iterator[EditResult]:
        """Make the pictures of checked jobs, and yield each batch's results when they are done.

        Pictures of one task, working size, solver and number of steps run together, whatever their texts, scales and
        seeds; `EditResult.index` is the job's place in what was checked. Pixels are decoded batch by batch, so that a
        long list takes no more memory than a short one. Raises PictureError, BackendError; OptionError, by the call
        itself, for steps that have no schedule; Cancelled where `on_step` returned False.
        """
        batches = [(batch, self._schedule(batch)) for batch in form_batches(requests, self._max_batch)]
        return self._run(batches, on_step)

    def _run(
        self, batches: Sequence[tuple[Sequence[Request], Schedule]], on_step: OnStep | None
    ) -> Iterator[EditResult]:
        total, before = sum(schedule.calls for _, schedule in batches), 0
        styles: Styles = {}
        for batch, schedule in batches:
            progress = Progress(on_step, before, total)
            with self._turn():
                results = self._run_batch(batch, schedule, styles, progress)
            before += schedule.calls
            yield from results

    def estimate(self, requests: Sequence[Request]) -> list[Estimate]:
        """What checked jobs would take, without opening a network. Raises OptionError; EngineError as `run` does."""
        found: dict[int, Estimate] = {}
        for batch in form_batches(requests, self._max_batch):
            schedule = self._schedule(batch)
            work = self._work(batch, schedule)
            windows, branches = work.tiling.count, tuple(sorted(set(work.branches)))
            of_each = schedule.calls * windows, work.rows, len(batch), branches, windows, work.window_size
            found |= {request.index: Estimate(request, *of_each) for request in batch}
        return [found[request.index] for request in requests]

    def _schedule(self, batch: Sequence[Request]) -> Schedule:
        return make_schedule([request.options for request in batch], self.manifest.scheduler)

    def _work(self, batch: Sequence[Request], schedule: Schedule) -> Work:
        return self._networks.work(schedule, len(batch), latents_size(batch, self.manifest))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread edits.

        Raises PixrtError inside a step callback, which would wait for itself, and for a closed editor.
        """
        if self._editing == threading.get_ident():
            raise PixrtError("on_step used the editor that is calling it", remedy="Use another Editor there")
        with self._lock:
            if self._closed:
                raise PixrtError("the editor is closed", remedy="Make another Editor")
            self._editing = threading.get_ident()
            try:
                yield
            finally:
                self._editing = None

    def close(self) -> None:
        """Free the networks, arrays and the device. The editor cannot be used afterwards."""
        if self._closed:
            return
        with self._turn():
            self._closed = True
            try:
                self._networks.close()
            finally:
                self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run_batch(
        self, batch: Sequence[Request], schedule: Schedule, styles: Styles, progress: Progress
    ) -> list[EditResult]:
        networks, manifest, clock = self._networks, self.manifest, Stopwatch()

        def after_step(number: int, state: LoopState) -> None:
            progress.tell(number, batch, state, manifest)

        made = run_batch(networks, batch, schedule, manifest, clock, styles, after_step)
        work = self._work(batch, schedule)
        return [
            EditResult(
                index=request.index,
                image=image,
                instruction=request.job.text,
                options=request.options,
                dropped_tokens=request.tokens.dropped,
                dropped_negative_tokens=request.negative_tokens.dropped,
                working_size=request.geometry.padded,
                network_rows=work.rows,
                times=clock.times(),
                backend=self._backend.name,
                model=manifest.name,
                model_sha256=manifest.source.sha256,
                precision=manifest.precision,
                notice=manifest.notice,
                loras=self._loras.specs,
                decoded_in_fp32=second_try,
                tile=work.tile,
                inputs_sha256=prepared.sha256,
            )
            for (image, prepared, second_try), request in zip(made, batch, strict=True)
        ]
