"""The Python API: `Editor` opens a bundle once and edits pictures with it. Must not import a backend."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self, Unpack, overload

from pixrt.backends.protocol import EngineMemory
from pixrt.backends.registry import BackendOptions, open_backend
from pixrt.buffers import Latents
from pixrt.conditioning import Conditioning
from pixrt.errors import OptionError, PixrtError
from pixrt.images import PictureSource, from_network, to_network
from pixrt.lora import LoraInput, LoraSet, load_loras, replacements, require_own_weights
from pixrt.networks import Networks
from pixrt.options import BackendName, EditParameters
from pixrt.pipeline import denoise
from pixrt.plan import Schedule, make_schedule
from pixrt.requests import Request, form_batches, is_several, make_requests
from pixrt.result import EditResult, Estimate, OnStep, Progress
from pixrt.spec import Component, LoraSpec, Manifest
from pixrt.store import DEFAULT_BUNDLE, open_bundle
from pixrt.tasks import edit_conditioning, require_edit
from pixrt.timing import Stopwatch
from pixrt.tokenizer import Tokenizer
from pixrt.weights import WeightTable, read_table

MAX_BATCH = 64


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
        fused_step: run the bundle's fused step graph in place of the UNet; None leaves it to the backend.
        provider_options: options of ONNX Runtime's execution provider, for `ort-` backends: see `backends.providers`.
        cuda_graphs: TensorRT: capture what a step enqueues into a CUDA graph, and launch it as one.
        weight_budget_mib: TensorRT: of an engine's weights at most so much is on the device, the rest is streamed from
            the host at every run; for engines built with weight streaming.
        loras: LoRA files, or pairs of a file and a scale: see `set_loras`.

    Raises BundleError, BackendError, OptionError, LoraError.
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
        fused_step: bool | None = None,
        provider_options: Mapping[str, str] | None = None,
        cuda_graphs: bool = True,
        weight_budget_mib: int | None = None,
        loras: Sequence[LoraInput] = (),
    ) -> None:
        if not (isinstance(max_batch, int) and 1 <= max_batch <= MAX_BATCH):
            raise OptionError(f"max_batch is {max_batch!r}", remedy=f"It must be from 1 to {MAX_BATCH}")
        self._bundle = open_bundle(bundle, verify=verify)
        require_edit(self._bundle.manifest)
        self._tokenizer = Tokenizer(self._bundle.folder, self._bundle.manifest.tokenizer)
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self._editing: int | None = None  # the thread whose turn it is
        self._closed = False
        self._loras = LoraSet((), {}, {})
        options = BackendOptions(
            threads=threads,
            provider_options=provider_options or {},
            cuda_graphs=cuda_graphs,
            weight_budget_mib=weight_budget_mib,
        )
        opened = open_backend(backend, self._bundle, options)
        self._backend, self.passed_over = opened.backend, opened.passed_over
        try:
            self._networks = Networks(self._bundle, self._backend, low_memory=low_memory, fused_step=fused_step)
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
                given, places = new.factors.get(component), table.get(self._networks.running(component), {})
                weights = partial(replacements, self._bundle.folder, places, given) if given else None
                self._networks.replace(component, weights)

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

        Parameters, texts and the pictures' headers are checked by the call itself, before the first network runs;
        pixels are decoded batch by batch, so that a long list takes no more memory than a short one.
        """
        requests = make_requests(image, instruction, parameters, self.manifest, self._tokenizer)
        return self._run(requests, make_schedule(requests[0].options, self.manifest.scheduler), on_step)

    def _run(self, requests: Sequence[Request], schedule: Schedule, on_step: OnStep | None) -> Iterator[EditResult]:
        batches = form_batches(requests, self._max_batch)
        for number, batch in enumerate(batches):
            progress = Progress(on_step, number * schedule.calls, len(batches) * schedule.calls)
            with self._turn():
                results = self._edit_batch(batch, schedule, progress)
            yield from results

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

    def dry_run(
        self,
        image: PictureSource | Sequence[PictureSource],
        instruction: str | Sequence[str],
        **parameters: Unpack[EditParameters],
    ) -> list[Estimate]:
        """Check an edit and tell what it would take, without opening a network. Raises what `edit` raises."""
        requests = make_requests(image, instruction, parameters, self.manifest, self._tokenizer)
        schedule = make_schedule(requests[0].options, self.manifest.scheduler)
        branches = self._networks.branches(schedule)
        counts = tuple(sorted(set(branches)))
        batches = {r.index: len(batch) for batch in form_batches(requests, self._max_batch) for r in batch}
        return [Estimate(r, schedule.calls, sum(branches), batches[r.index], counts) for r in requests]

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

    def _edit_batch(self, batch: Sequence[Request], schedule: Schedule, progress: Progress) -> list[EditResult]:
        """Edit pictures of one padded size together."""
        networks, manifest, clock = self._networks, self.manifest, Stopwatch()
        with clock.stage("prepare"):
            pictures = [request.load() for request in batch]
            pixels = [to_network(picture, request.geometry) for picture, request in zip(pictures, batch, strict=True)]
        with networks.stage(Component.TEXT_ENCODER):
            null_text = networks.text(batch[0].negative_tokens.ids, clock)
            texts = [networks.text(request.tokens.ids, clock) for request in batch]
        with networks.stage(Component.VAE_ENCODER):
            sources = [networks.source(picture, clock) for picture in pixels]

        with networks.stage(Component.UNET):
            conditioning = edit_conditioning(texts, null_text, sources)
            latents = self._denoise(batch, schedule, conditioning, progress, clock)
        with networks.stage(Component.VAE_DECODER):
            decoded = [networks.decode(item, clock) for item in latents]
        rows = sum(networks.branches(schedule))
        with clock.stage("finish"):
            images = [
                from_network(result, picture, request.geometry)
                for (result, _), picture, request in zip(decoded, pictures, batch, strict=True)
            ]
        return [
            EditResult(
                index=request.index,
                image=image,
                instruction=request.instruction,
                options=request.options,
                dropped_tokens=request.tokens.dropped,
                dropped_negative_tokens=request.negative_tokens.dropped,
                working_size=request.geometry.padded,
                network_rows=rows,
                times=clock.times(),
                backend=self._backend.name,
                model=manifest.name,
                model_sha256=manifest.source.sha256,
                notice=manifest.notice,
                loras=self._loras.specs,
                decoded_in_fp32=second_try,
            )
            for image, request, (_, second_try) in zip(images, batch, decoded, strict=True)
        ]

    def _denoise(
        self,
        batch: Sequence[Request],
        schedule: Schedule,
        conditioning: Conditioning,
        progress: Progress,
        clock: Stopwatch,
    ) -> Latents:
        """The loop. Its plan does not outlive it: with `low_memory` the network is closed after it."""
        width, height = (side // self.manifest.vae_scale for side in batch[0].geometry.padded)
        plan = self._networks.plan(schedule, [request.seed for request in batch], (height, width), clock)
        with clock.stage("denoise"):
            plan.condition(conditioning)
            for number, state in enumerate(denoise(plan), 1):
                progress.tell(number, batch, state, self.manifest)
            return plan.latents()
