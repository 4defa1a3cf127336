"""A bundle opened once on one backend, that makes the pictures of jobs. Must not import a backend."""

import dataclasses
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from types import TracebackType
from typing import Any, Self, Unpack

from pixrt.backends.protocol import EngineMemory, TellsMemory
from pixrt.backends.registry import costs_for, open_backend
from pixrt.bundles.manifest import INT8, Component, LoraSpec, Manifest
from pixrt.bundles.store import DEFAULT_BUNDLE, open_bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.caches import Recent
from pixrt.core.networks import Networks
from pixrt.core.track import make_steps
from pixrt.core.windows import Work
from pixrt.editor.device import Device, OpenBundle
from pixrt.editor.events import Failed, Made, OnStep, asks_to_stop
from pixrt.editor.result import EditResult, Estimate
from pixrt.editor.run import Run
from pixrt.errors import Cancelled, LoraError, OptionError, PixrtError
from pixrt.lora.embeddings import EmbeddingInput, give
from pixrt.lora.merging import LoraInput, LoraSet, load_loras, replacements, require_own_weights
from pixrt.lora.weights import WeightTable, read_table
from pixrt.maths.tiles import check_tile
from pixrt.options.parameters import SessionParameters
from pixrt.options.session import SessionOptions
from pixrt.pictures.geometry import MAX_PIXELS, MAX_WORKING_PIXELS
from pixrt.tasks.budget import Purse
from pixrt.tasks.jobs import Job
from pixrt.tasks.registry import require
from pixrt.tasks.requests import OnRefused, Request, make_requests

_LOG = logging.getLogger("pixrt")  # nothing of a picture or a text goes there


class Runner:
    """A bundle, opened and checked, on one backend.

    Networks are opened at the first edit that needs them and kept; so are the pools that pictures advance in, the
    embeddings of recent instructions and the latents of recent pictures. Calls from several threads take turns, step by
    step.

    Args:
        bundle: a bundle's folder, or a name that `pixrt models` lists.
        options: how it is opened; what is given by name comes first: `Editor("bundle", backend="ort-cpu", threads=4)`.
        loras: LoRA files, each by itself or as (file, scale) or (file, scale, text encoder's scale): see `set_loras`.
        embeddings: textual-inversion files, or pairs of a file and what is to be written for it in texts.

    Raises BundleError, BackendError, OptionError, LoraError, EmbeddingError.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
        options: SessionOptions | None = None,
        *,
        loras: Sequence[LoraInput] = (),
        embeddings: Sequence[EmbeddingInput] = (),
        **session: Unpack[SessionParameters],
    ) -> None:
        options = dataclasses.replace(options or SessionOptions(), **session)
        self._bundle = open_bundle(bundle, verify=options.verify)
        check_tile(options.tile, self.manifest.size_multiple, self.manifest.latents.scale)
        self.tile = options.tile
        tokenizer = self.manifest.tokenizers[0]
        given = give(embeddings, self.manifest)
        self.embeddings = given.specs
        self._tokenizer = Tokenizer(self._bundle.folder, tokenizer, given.tokens)
        self._bundle.require_unchanged(tokenizer.vocab, tokenizer.merges)
        self._max_batch = options.max_batch
        self._threads, self._precision = options.threads, options.cpu_precision
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._loras = LoraSet()
        opened = open_backend(options.backend, self._bundle, options)
        self._backend, self.passed_over = opened.backend, opened.passed_over
        self.backend_reason, self.backend_note = opened.reason, opened.note
        if opened.note is not None:
            _LOG.info("%s", opened.note)
        try:
            self._networks = Networks(
                self._bundle,
                self._backend,
                low_memory=options.low_memory,
                fused_step=options.fused_step,
                tile=options.tile,
            )
            if given.rows is not None:
                self._networks.encoders.use_embeddings(given.rows)
            self.set_loras(loras)
        except BaseException:
            self._backend.close()
            raise
        _LOG.debug("opened %s on %s: %s", self.manifest.name, self.backend, self.backend_reason or "as it was told")

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself: native resolution, defaults, notice and the rest."""
        return self._bundle.manifest

    @property
    def backend(self) -> str:
        """The backend in use.

        `passed_over` tells the faster ones that "auto" could not open, and why; `backend_reason` why this one was taken
        where that was measured, and `backend_note` that a measurement does not hold any more.
        """
        return self._backend.name

    @property
    def memory(self) -> tuple[EngineMemory, ...]:
        """Device memory of the engines that are open; empty where networks run in the host's memory."""
        return self._backend.memory() if isinstance(self._backend, TellsMemory) else ()

    @property
    def loras(self) -> tuple[LoraSpec, ...]:
        """The LoRAs in use, in the order they were given."""
        return self._loras.specs

    @property
    def lora_notes(self) -> tuple[str, ...]:
        """What a user should know of the LoRAs' files, such as what of them is left out."""
        return self._loras.notes

    def set_loras(self, loras: Sequence[LoraInput]) -> None:
        """Use these LoRAs in place of those in use; none of them for an empty list.

        Pictures that are being made are begun again with them.

        The networks that a LoRA comes to or goes from are opened again when they are next needed, with weights merged
        as `pixrt export --lora` merges them; nothing is left of earlier ones. What is wrong leaves all as it was.

        Raises LoraError for a file that does not fit, BundleError for a bundle of a version that cannot take LoRAs,
        EngineError for TensorRT engines that were not built to take other weights.
        """
        if loras and self.manifest.precision in INT8:
            raise LoraError(
                f"the bundle {self.manifest.name!r} is {self.manifest.precision}, and no LoRA can be merged into INT8",
                remedy="Merge it before the weights are quantised: `pixrt export --lora`",
            )
        new = LoraSet()
        table = read_table(self._bundle) if loras or self._loras.specs else {}
        if loras:
            again = (Component.UNET_STEP, Component.UNET_SHALLOW)  # the UNet's weights
            named = {part: places for part, places in table.items() if part not in again}
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
                    its = {name: each for name, each in (given or {}).items() if name in places}
                    weights = partial(replacements, self._bundle, places, its) if its else None
                    self._networks.replace(network, weights)

    def check(
        self, jobs: Sequence[Job], *, on_refused: OnRefused | None = None, has_loras: bool = False
    ) -> list[Request]:
        """Check jobs before any network runs: texts, options, whether they fit the bundle, and the pictures' headers.

        `has_loras`: they will run with LoRAs, whether or not any are in use now.

        Raises OptionError, BundleError; PictureError for the first picture that is refused, unless `on_refused` is
        told of each, by its place, and the others go on.
        """
        self._require_own_process()
        for job in jobs:
            require(job, self.manifest, has_loras or bool(self._loras.specs))
        most = MAX_WORKING_PIXELS if self.tile is None else MAX_PIXELS
        return make_requests(
            jobs,
            self.manifest,
            self._tokenizer,
            most_pixels=most,
            on_refused=on_refused,
            levers=self.levers,
            purse=cache(self._purse),
        )

    @property
    def levers(self) -> frozenset[str]:
        """What can be used again with this bundle on this backend: "branch_interval", "cache_interval"."""
        return self._networks.levers

    def _purse(self) -> Purse:
        """What edits cost here, as `pixrt tune` measured it: for budgets. Raises OptionError on tiles."""
        if self.tile is not None:
            problem = "budget_ms is given, and pictures are worked on in tiles, which `pixrt tune` does not measure"
            raise OptionError(problem, remedy="Leave it out, or the tiles", option="budget_ms")
        costs = costs_for(self._bundle, self._threads, self.backend, self._precision)

        def refusal(why: str) -> OptionError:
            where = f"{self.backend} in {self._precision.upper()}" + (
                f", {self._threads} threads" if self._threads else ""
            )
            return OptionError(
                f"budget_ms is given, and what an edit takes here is not known ({where}): {why}",
                remedy="Measure it with `pixrt tune BUNDLE`, other sizes with --size; it measures the CPU's backends",
                option="budget_ms",
            )

        return Purse(costs, self.levers, refusal)

    def run(self, requests: Sequence[Request], *, on_step: OnStep | None = None) -> Iterator[EditResult]:
        """Make the pictures of checked jobs, and yield each result when it is done.

        Pictures of one working size run together, whatever their tasks, solvers, steps, scales and texts;
        `EditResult.index` is the job's place in what was checked. Pixels are decoded when there is room for them, so
        that a long list takes no more memory than a short one. Raises PictureError, BackendError, and what else makes a
        picture fail: `events` goes on with the others. Raises OptionError, by the call itself, for steps that have no
        schedule; Cancelled if `on_step` returned False.
        """
        for request in requests:
            make_steps(request.options, self.manifest.scheduler)
        return self._results(self.events(requests, steps=on_step is not None), on_step)

    @staticmethod
    def _results(run: Run, on_step: OnStep | None) -> Iterator[EditResult]:
        with run:
            for event in run:
                if isinstance(event, Failed):
                    error = event.error
                    del event  # else the error's traceback would keep the error, and what failed, alive
                    try:
                        raise error
                    finally:
                        del error
                if isinstance(event, Made):
                    yield event.result
                elif on_step is not None and asks_to_stop(on_step(event)):
                    raise Cancelled(
                        f"the edit was stopped by on_step after {event.step} of {event.of} steps",
                        remedy="Return anything but False from on_step to go on",
                    )

    def events(self, requests: Sequence[Request], *, steps: bool = True) -> Run:
        """Make the pictures of checked jobs; iterate for `Stepped`, `Made` and `Failed`, or cancel some of them.

        They are sorted so that those of one working size follow each other; with none there is room for `max_batch`
        that are added later. `steps` may be False if nobody wants to know of single steps: a device then need not wait
        for the host.
        """
        grouped = self._grouped(requests)
        slots = min(self._max_batch, max(map(len, grouped.values()), default=self._max_batch))
        requests = [request for group in grouped.values() for request in group]
        return Run(self._opened, requests, slots=slots, steps=steps)

    def device(self, *, slots: int, most_rows: int) -> Device:
        """The networks for somebody who decides by himself what is next, such as a server."""
        return Device(self._opened, slots=slots, most_rows=most_rows, waits=True)

    @property
    def _opened(self) -> OpenBundle:
        return OpenBundle(
            self.manifest, self._networks, self._backend.name, lambda: self._loras.specs, self.embeddings, self._turn
        )

    @property
    def caches(self) -> Mapping[str, Recent[Any]]:
        """What is kept for its next use, by what it is."""
        return self._networks.caches

    def estimate(self, requests: Sequence[Request]) -> list[Estimate]:
        """What checked jobs would take, without opening a network. Raises OptionError; EngineError as `run` does."""
        found: dict[int, Estimate] = {}
        for work, group in self._grouped(requests).items():
            together = self._networks.capacity(work, min(self._max_batch, len(group))).slots
            for request in group:
                steps, tiles = make_steps(request.options, self.manifest.scheduler), work.tiling.count
                found[request.index] = Estimate(
                    request=request,
                    steps=len(steps),
                    network_calls=steps.calls * tiles,
                    network_rows=steps.evaluations * tiles,
                    shallow_rows=steps.shallow_evaluations * tiles,
                    batch=together,
                    branches=tuple(sorted(set(map(len, steps.branches)))),
                    windows=tiles,
                    window_size=work.tile_size,
                )
        return [found[request.index] for request in requests]

    def _grouped(self, requests: Sequence[Request]) -> dict[Work, list[Request]]:
        """Requests that can run together, in order."""
        groups: dict[Work, list[Request]] = {}
        for request in requests:
            steps = make_steps(request.options, self.manifest.scheduler)
            size, pieces = request.latents_size(self.manifest), request.tokens.pieces
            work = self._networks.work_of(steps, size, pieces=pieces)
            groups.setdefault(work, []).append(request)
        return groups

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread uses the networks. Raises PixrtError for an editor that is closed or forked."""
        self._require_own_process()
        with self._lock:
            if self._closed:
                raise PixrtError("the editor is closed", remedy="Make another Editor")
            yield

    def _require_own_process(self) -> None:
        """Raise PixrtError after a fork: the threads of the networks, and who holds a lock, are not in the copy."""
        if self._process != os.getpid():
            raise PixrtError(
                f"the editor was opened by process {self._process}, and this is {os.getpid()}, forked from it",
                remedy='Open an Editor in each process, or start processes by "spawn"',
            )

    def close(self) -> None:
        """Free the networks, arrays and the device. The editor cannot be used afterwards."""
        if self._closed or self._process != os.getpid():
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
