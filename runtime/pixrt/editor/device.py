"""A bundle's networks as the dispatcher sees them: one thing at a time, a picture encoded, a step, a picture decoded.

Pictures are known by numbers that whoever asks gives them. Must not import a backend.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from pixrt.bundles.manifest import Component, EmbeddingSpec, LoraSpec, Manifest
from pixrt.core.conditioning import Latents
from pixrt.core.networks import Networks
from pixrt.core.pool import Pool
from pixrt.core.track import Track, make_steps
from pixrt.core.windows import Work
from pixrt.dispatch.demand import Bucket
from pixrt.editor.events import Stepped
from pixrt.editor.result import EditResult
from pixrt.editor.stages import Making, encode, finish
from pixrt.errors import DeviceLost, PixrtError
from pixrt.pictures.inputs import Styles
from pixrt.tasks.requests import Request

_STAGES: Mapping[str, tuple[Component, ...]] = {
    "encode": (Component.TEXT_ENCODER, Component.VAE_ENCODER),
    "step": (Component.UNET,),
    "decode": (Component.VAE_DECODER,),
}


@dataclass(frozen=True, slots=True, eq=False)
class OpenBundle:
    """What a device works with: an opened bundle, and the turn to take before it is touched."""

    manifest: Manifest
    networks: Networks
    backend: str
    loras: Callable[[], tuple[LoraSpec, ...]]
    embeddings: tuple[EmbeddingSpec, ...]
    turn: Callable[[], AbstractContextManager[None]]


class Lost(Exception):
    """Pictures have lost their places, and must begin again: the weights were changed, or a step of several failed.

    Attributes:
        numbers: theirs.
        slots: their bucket takes only so many at once from now on; None for as many as before.
    """

    def __init__(self, numbers: Sequence[int], slots: int | None = None) -> None:
        super().__init__(numbers, slots)
        self.numbers = numbers
        self.slots = slots


@dataclass(slots=True, eq=False)
class _Open:
    """A pool in use."""

    pool: Pool
    slots: int
    generation: int
    places: dict[int, int]  # the slot of a picture


class Device:
    """See the module. `slots` are the most pictures in a pool, and `most_rows` the most rows of a step, None for all.

    With `waits` a step has run when `step` returns. With low memory the networks of a stage are closed when another one
    begins. For one thread at a time; others may use the bundle between two calls.
    """

    def __init__(self, opened: OpenBundle, *, slots: int, most_rows: int | None = None, waits: bool) -> None:
        self._opened = opened
        self._networks = opened.networks
        self._slots = slots
        self._most_rows = most_rows
        self._waits = waits
        self._fewer: dict[Work, int] = {}  # slots of works whose steps have failed with more
        self._pools: dict[Work, _Open] = {}
        self._makings: dict[int, Making] = {}
        self._tracks: dict[int, Track] = {}  # of pictures that are encoded and have made no step
        self._ended: dict[int, Latents] = {}
        self._styles: Styles = {}
        self._stage = ""

    def bucket(self, request: Request, variant: tuple[object, ...] = ()) -> tuple[Bucket, tuple[int, ...]]:
        """With what a picture may share calls, and the rows of its steps. Raises OptionError, EngineError.

        `variant` are other weights that it will run with than those of now. From any thread.
        """
        steps, refit = make_steps(request.options, self._opened.manifest.scheduler), bool(variant)
        size = request.latents_size(self._opened.manifest)
        work = self._networks.work_of(steps, size, pieces=request.tokens.pieces, refit=refit)
        capacity = self._networks.capacity(work, self._slots, self._most_rows, refit=refit)
        tiling = work.tiling
        key = (str(work.network), tiling.size, tiling.window, work.pieces, work.caches)
        area = float(tiling.count * tiling.window[0] * tiling.window[1])
        width, height = request.geometry.padded
        bucket = Bucket(key, capacity.slots, capacity.most, area, variant, f"{width}x{height}")
        return bucket, tuple(map(len, steps.branches))

    def encode(self, number: int, request: Request) -> None:
        """Decode and encode a picture, so that it can step. Raises PixrtError, MemoryError."""
        self._enter("encode")
        steps = make_steps(request.options, self._opened.manifest.scheduler)
        with self._opened.turn():
            size, pieces = request.latents_size(self._opened.manifest), request.tokens.pieces
            work = self._networks.work_of(steps, size, pieces=pieces)
            making = Making(request, steps, work, self._networks.generation)
            self._networks.open_aside(work)
            self._tracks[number] = encode(making, self._networks, self._opened.manifest, self._styles)
        self._makings[number] = making

    def step(self, numbers: Collection[int]) -> list[int]:
        """Advance pictures of one work by a step each; those that have ended, which must `leave`.

        A picture takes a place in the pool with its first step. Raises Lost; for a single picture PixrtError or
        MemoryError: that one has failed.
        """
        self._enter("step")
        makings = [self._makings[number] for number in numbers]
        work, rows = makings[0].work, sum(making.rows for making in makings)
        try:
            with self._opened.turn():
                self._require_current(work)
                opened = self._join(work, numbers)
                everybody = len(numbers) == len(opened.places)
                started = time.perf_counter()
                ended = opened.pool.step(None if everybody else {opened.places[number] for number in numbers})
                if self._waits:
                    opened.pool.wait()
                seconds = time.perf_counter() - started
        except DeviceLost:
            raise
        except (PixrtError, MemoryError):
            lost = self._drop_pool(work)
            if len(numbers) == 1 and set(lost) <= set(numbers):
                self.drop(next(iter(numbers)))
                raise
            self._fewer[work] = max(1, len(numbers) // 2)
            # Those without a place yet too: where the pool could not be made there is nobody else to be told of it by.
            raise Lost(list(dict.fromkeys([*lost, *numbers])), self._fewer[work]) from None
        for making in makings:
            making.clock.add("denoise", seconds)
            making.clock.add("denoise_share", seconds * making.rows / rows)
            making.done += 1
        return [number for number in numbers if opened.places[number] in ended] if ended else []

    def _join(self, work: Work, numbers: Collection[int]) -> _Open:
        """The pool of a work, with these pictures in it."""
        joining = [number for number in numbers if number in self._tracks]
        if work not in self._pools:
            self.rest()  # a server is asked for any number of sizes: what is kept of them is bounded elsewhere
            slots, clock = self._slots_of(work), self._makings[joining[0]].clock
            pool = self._networks.take_pool(work, slots, clock, self._most_rows)
            self._pools[work] = _Open(pool, slots, self._networks.generation, {})
        opened = self._pools[work]
        for number in joining:
            with self._makings[number].clock.stage("denoise"):
                opened.places[number] = opened.pool.join(self._tracks[number])
            del self._tracks[number]
        return opened

    def stepped(self, number: int) -> Stepped:
        """What a picture's step has made of it; until anything else is asked of the device."""
        making = self._makings[number]
        opened = self._pools[making.work]
        matrix, slot = self._opened.manifest.preview, opened.places[number]
        return Stepped(making.request, making.done, len(making.steps), opened.pool, slot, matrix)

    def leave(self, number: int) -> None:
        """Take a picture that has ended out of its pool. Raises PixrtError."""
        opened = self._pools[self._makings[number].work]
        slot = opened.places.pop(number)
        with self._opened.turn():
            self._ended[number] = opened.pool.leave(slot)

    def decode(self, number: int) -> EditResult:
        """The result of a picture that has left its pool. Raises Lost, PixrtError, MemoryError."""
        self._enter("decode")
        opened, making = self._opened, self._makings[number]
        with opened.turn():
            if making.generation != self._networks.generation:
                raise Lost([number])
            latents = self._ended.pop(number)
            del self._makings[number]
            weights = opened.loras(), opened.embeddings
            return finish(making, latents, self._networks, opened.manifest, opened.backend, *weights)

    def drop(self, number: int) -> None:
        """Forget a picture, wherever it is; its place is free then. Nothing for one that is not here."""
        making = self._makings.pop(number, None)
        self._tracks.pop(number, None)
        self._ended.pop(number, None)
        opened = None if making is None else self._pools.get(making.work)
        if opened is not None and number in opened.places:
            try:
                with self._opened.turn():
                    opened.pool.leave(opened.places.pop(number))
            except PixrtError:  # a closed editor, or a device that is lost: nobody can use the pool any more
                assert making is not None
                self._drop_pool(making.work)

    def again(self, number: int) -> Request:
        """The request of a picture that has lost its place, with what was decoded for it, to be encoded anew."""
        making = self._makings.pop(number)
        self._tracks.pop(number, None)
        self._ended.pop(number, None)
        return replace(making.request, prepared=making.prepared)

    def done(self, number: int) -> tuple[int, int]:
        """How many steps a picture has made, of how many."""
        making = self._makings[number]
        return making.done, len(making.steps)

    def rest(self) -> None:
        """Give back pools that are empty: other runs may use them."""
        for work, opened in tuple(self._pools.items()):
            if not opened.places:
                del self._pools[work]
                if not self._networks.low_memory:
                    self._networks.give_back(opened.pool, work, opened.slots, opened.generation, self._most_rows)

    def close(self) -> None:
        """Let go of every picture and pool; with low memory close what is open."""
        for number in tuple(self._makings):
            self.drop(number)
        self.rest()
        self._styles.clear()
        self._enter("")

    def _slots_of(self, work: Work) -> int:
        return self._fewer.get(work, self._slots)

    def _require_current(self, work: Work) -> None:
        """Raise Lost for the pictures of a work if they were encoded with other weights than the networks have now."""
        stale = [
            number
            for number, making in self._makings.items()
            if making.work == work and making.generation != self._networks.generation
        ]
        if stale:
            self._drop_pool(work)
            raise Lost(stale)

    def _drop_pool(self, work: Work) -> list[int]:
        """Let go of a pool whatever is in it; the pictures that were."""
        opened = self._pools.pop(work, None)
        return [] if opened is None else list(opened.places)

    def _enter(self, stage: str) -> None:
        """With low memory close the networks of the last stage if this is another one. A closed editor has none."""
        if stage == self._stage or not self._networks.low_memory:
            return
        if self._stage == "step":
            self.rest()
        with suppress(PixrtError), self._opened.turn():
            for component in _STAGES.get(self._stage, ()):
                self._networks.close_stage(component)
        self._stage = stage
