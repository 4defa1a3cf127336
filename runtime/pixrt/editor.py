"""The Python API: `Editor` opens a bundle once and edits pictures with it. Must not import a backend."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.registry import open_backend
from pixrt.errors import Cancelled, OptionError
from pixrt.guidance import active_branches, guidance_weights
from pixrt.images import PictureSource, from_network, to_network
from pixrt.networks import Networks
from pixrt.noise import draw_noise
from pixrt.options import BackendName, EditOptions, EditParameters
from pixrt.pipeline import denoise
from pixrt.plan import Step, make_plan
from pixrt.requests import Request, form_batches, is_several, make_requests
from pixrt.result import EditResult, StepInfo
from pixrt.schedulers import build_table
from pixrt.schedulers.table import StepTable
from pixrt.spec import Component, Manifest
from pixrt.store import DEFAULT_BUNDLE, open_bundle
from pixrt.tasks import edit_conditioning, require_edit
from pixrt.timing import Stopwatch
from pixrt.tokenizer import Tokenizer

OnStep = Callable[[StepInfo], object]
"""Called after every step; returning False, or raising, stops the edit."""

MAX_BATCH = 64


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an edit would do, without doing it: see `EditResult` for the fields."""

    request: Request
    network_calls: int
    network_rows: int


class Editor:
    """A bundle, opened and checked, on one backend.

    Networks are opened at the first edit that needs them and kept; so are the loop's arrays (per shape and batch), the
    embeddings of recent instructions and the latents of recent pictures. Calls from several threads take turns.

    Args:
        bundle: a bundle's folder, or a name that `pixrt models` lists.
        backend: "auto" takes the fastest one available.
        threads: for CPU kernels; None is one per core.
        max_batch: most pictures in one network call.
        low_memory: close each network when its stage is over: less memory, slower second edits.
        verify: check the SHA-256 of every file (sizes are always checked).

    Raises BundleError, BackendError, OptionError.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
        *,
        backend: BackendName = "auto",
        threads: int | None = None,
        max_batch: int = 4,
        low_memory: bool = False,
        verify: bool = True,
    ) -> None:
        if not (isinstance(max_batch, int) and 1 <= max_batch <= MAX_BATCH):
            raise OptionError(f"max_batch is {max_batch!r}", remedy=f"It must be from 1 to {MAX_BATCH}")
        opened = open_backend(backend, threads)
        self._bundle = open_bundle(bundle, verify=verify)
        require_edit(self._bundle.manifest)
        self._backend = opened.name
        self._tokenizer = Tokenizer(self._bundle.folder, self._bundle.manifest.tokenizer)
        self._networks = Networks(self._bundle, opened, low_memory=low_memory)
        self._max_batch = max_batch
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself: native resolution, defaults, notice and the rest."""
        return self._bundle.manifest

    @property
    def backend(self) -> str:
        """The backend in use."""
        return self._backend

    @overload
    def edit(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too; one picture and one text match here first
        self,
        image: PictureSource,
        instruction: str,
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[EditParameters],
    ) -> EditResult: ...

    @overload
    def edit(
        self,
        image: PictureSource | Sequence[PictureSource],
        instruction: str | Sequence[str],
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[EditParameters],
    ) -> list[EditResult]: ...

    def edit(
        self,
        image: PictureSource | Sequence[PictureSource],
        instruction: str | Sequence[str],
        *,
        on_step: OnStep | None = None,
        **parameters: Unpack[EditParameters],
    ) -> EditResult | list[EditResult]:
        """Edit pictures as instructed; the parameters are the fields of `EditOptions`.

        A picture is a path, a PIL image, an array (uint8, or float in [0, 1]) or an encoded file's bytes. With a list
        of pictures, of instructions, or both (paired one to one) the result is a list in that order; a picture's
        result does not depend on the others.

        Raises OptionError, PictureError, BackendError; Cancelled where `on_step` returned False.
        """
        results = list(self.stream(image, instruction, on_step=on_step, **parameters))
        results.sort(key=lambda result: result.index)
        return results if is_several(image) or is_several(instruction) else results[0]

    def stream(
        self,
        image: PictureSource | Sequence[PictureSource],
        instruction: str | Sequence[str],
        *,
        on_step: OnStep | None = None,
        **parameters: Unpack[EditParameters],
    ) -> Iterator[EditResult]:
        """Like `edit`, but yields each batch's results when they are done; `EditResult.index` is the place in the call.

        Everything is checked before the first network runs.
        """
        clock = Stopwatch()
        with clock.stage("prepare"):
            requests = make_requests(image, instruction, parameters, self.manifest, self._tokenizer)
        schedule = self._schedule(requests[0].options)
        batches = form_batches(requests, self._max_batch)
        for number, batch in enumerate(batches):
            progress = _Progress(on_step, number * schedule.calls, len(batches) * schedule.calls)
            with self._lock:
                results = self._edit_batch(batch, schedule, progress, clock)
            yield from results
            clock = Stopwatch()

    def dry_run(
        self,
        image: PictureSource | Sequence[PictureSource],
        instruction: str | Sequence[str],
        **parameters: Unpack[EditParameters],
    ) -> list[Estimate]:
        """Check an edit and tell what it would take, without opening a network. Raises what `edit` raises."""
        requests = make_requests(image, instruction, parameters, self.manifest, self._tokenizer)
        schedule = self._schedule(requests[0].options)
        return [Estimate(request, schedule.calls, schedule.rows) for request in requests]

    def close(self) -> None:
        """Free the networks and arrays. The next edit would open them again."""
        with self._lock:
            self._networks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _schedule(self, options: EditOptions) -> "_Schedule":
        """Everything about the steps of an edit that the pictures do not change; `options` are resolved."""
        assert options.scheduler is not None
        assert options.steps is not None
        assert options.guidance_scale is not None
        assert options.image_guidance_scale is not None
        table = build_table(options.scheduler, self.manifest.scheduler, options.steps, eta=options.eta)
        weights = guidance_weights(
            len(table), options.guidance_scale, options.image_guidance_scale, options.guidance_interval
        )
        return _Schedule(table, weights)

    def _edit_batch(
        self, batch: Sequence[Request], schedule: "_Schedule", progress: "_Progress", clock: Stopwatch
    ) -> list[EditResult]:
        """Edit pictures of one padded size together."""
        networks, manifest = self._networks, self.manifest
        null = self._tokenizer.encode(batch[0].options.negative_prompt)
        null_text = networks.text(null.ids, clock)
        texts = [networks.text(request.tokens.ids, clock) for request in batch]
        networks.end_stage(Component.TEXT_ENCODER)
        with clock.stage("prepare"):
            pixels = [to_network(request.picture, request.geometry) for request in batch]
        sources = [networks.source(picture, clock) for picture in pixels]
        networks.end_stage(Component.VAE_ENCODER)

        height, width = sources[0].shape[1:]
        workspace = networks.workspace(len(batch), (height, width), clock)
        with clock.stage("denoise"):
            calls = schedule.calls if schedule.table.noise.any() else 0
            noise = draw_noise([request.seed for request in batch], calls, workspace.shape[1:])
            plan = make_plan(workspace, schedule.table, schedule.weights, noise)
            conditioning = edit_conditioning(texts, null_text, sources)
            for rows in plan.rows:
                rows.condition(conditioning.contexts, conditioning.sources)
            for number, step in enumerate(denoise(plan), 1):
                progress.tell(number, batch, step, manifest)
            latents = plan.latents.copy()
        networks.end_stage(Component.UNET)

        decoded = [networks.decode(item, clock) for item in latents]
        networks.end_stage(Component.VAE_DECODER)
        with clock.stage("finish"):
            images = [
                from_network(picture, request.picture, request.geometry)
                for picture, request in zip(decoded, batch, strict=True)
            ]
        return [
            EditResult(
                index=request.index,
                image=image,
                instruction=request.instruction,
                options=request.options,
                dropped_tokens=request.tokens.dropped,
                working_size=request.geometry.padded,
                network_rows=schedule.rows,
                times=clock.times(),
                backend=self._backend,
                model=manifest.name,
                model_sha256=manifest.source.sha256,
                notice=manifest.notice,
            )
            for image, request in zip(images, batch, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The coefficients of all steps: the solver's table, and guidance weights `[N, 3]`."""

    table: StepTable
    weights: NDArray[np.float64]

    @property
    def calls(self) -> int:
        """Network calls, N."""
        return len(self.table)

    @property
    def rows(self) -> int:
        """Network evaluations of one picture: the branches that run, summed over the calls."""
        return sum(len(active_branches(row)) for row in self.weights)


@dataclass(frozen=True, slots=True)
class _Progress:
    """Reports steps to the caller, who may stop the edit."""

    on_step: OnStep | None
    before: int
    total: int

    def tell(self, number: int, batch: Sequence[Request], step: Step, manifest: Manifest) -> None:
        if self.on_step is None:
            return
        info = StepInfo(self.before + number, self.total, batch, step, manifest)
        if self.on_step(info) is False:
            raise Cancelled(
                f"the edit was stopped by on_step after {info.step} of {info.total} steps",
                remedy="Return anything but False from on_step to go on",
            )
