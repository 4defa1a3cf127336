"""Pictures on their way through one pool: they join when a slot is free, step together, and leave when they have ended.

Must not import a backend.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from traceback import clear_frames
from typing import Self

from pixrt.bundles.manifest import Component, LoraSpec, Manifest
from pixrt.core.conditioning import Latents
from pixrt.core.networks import Networks
from pixrt.core.pool import Pool
from pixrt.core.timing import Stopwatch
from pixrt.core.track import Track, make_steps
from pixrt.core.windows import Work
from pixrt.editor.events import Event, Failed, Made, Stepped
from pixrt.editor.stages import Making, encode, finish
from pixrt.errors import BackendError, Cancelled, PixrtError
from pixrt.pictures.inputs import Styles
from pixrt.tasks.requests import Request


@dataclass(frozen=True, slots=True, eq=False)
class OpenBundle:
    """What a run works with: an opened bundle, and the turn to take before it is touched."""

    manifest: Manifest
    networks: Networks
    backend: str
    loras: Callable[[], tuple[LoraSpec, ...]]
    turn: Callable[[], AbstractContextManager[None]]


class Run(Iterator[Event]):
    """Makes the pictures of requests; iterate over it for what happens, until none is left. More may be added.

    Requests of one `Work` share network calls, whatever else differs between them; one of another work waits until the
    pool is empty. A picture that fails is a `Failed` of its own. Others may use the bundle between two events: when its
    weights are changed meanwhile, pictures on their way are begun again.

    `slots` is the most pictures at once. With `steps` every step is an event, and a device is waited for. For one
    thread at a time, `cancel` excepted; `close` it, or use it as a context, if it may not be iterated to its end.
    """

    def __init__(self, opened: OpenBundle, requests: Iterable[Request], *, slots: int, steps: bool) -> None:
        self._opened = opened
        self._networks = opened.networks
        self._slots = slots
        self._tells_steps = steps
        self._waiting: deque[Request] = deque(requests)
        self._cancelled: set[int] = set()
        self._styles: Styles = {}
        self._pool: Pool | None = None
        self._work: Work | None = None
        self._taken = (0, 0)  # with how many slots, and of which weights, the pool was taken
        self._making: dict[int, Making] = {}  # by slot
        self._ready: deque[tuple[Making, Track]] = deque()  # encoded, for the pool's next free slot
        self._ended: list[tuple[Making, Latents]] = []
        self._round: Iterator[Event] = iter(())

    def add(self, request: Request) -> None:
        """One more picture, after those that wait already."""
        self._waiting.append(request)

    @property
    def waiting(self) -> int:
        """How many pictures have not begun."""
        return len(self._waiting)

    def __next__(self) -> Event:
        try:
            while True:
                for event in self._round:
                    return event
                if not (self._waiting or self._ready or self._making or self._ended):
                    break
                self._round = self._advance()
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def cancel(self, index: int) -> None:
        """Stop one picture within a step; it becomes a `Failed` with Cancelled. The others go on. From any thread."""
        self._cancelled.add(index)

    def close(self) -> None:
        """Stop what is left, and give back the pool; with low memory close what is open."""
        self._round = iter(())
        self._waiting.clear()
        self._ready.clear()
        self._ended.clear()
        for slot in tuple(self._making):
            del self._making[slot]
            self._pool = None if self._pool is None else self._emptied(self._pool, slot)
        self._give_back()
        self._close_stages(Component.TEXT_ENCODER, Component.VAE_ENCODER, Component.UNET, Component.VAE_DECODER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance(self) -> Iterator[Event]:
        """Let in what has room, take a step, and let out what has ended."""
        yield from self._fill()
        if self._making:
            yield from self._step()
        yield from self._finish_ended()

    def _fill(self) -> Iterator[Event]:
        """Encode pictures for free slots, then let them join. With low memory that is done for an empty pool only."""
        if self._networks.low_memory and self._making:
            return
        try:
            while self._waiting and self._has_room():
                request = self._waiting[0]
                if request.index in self._cancelled:
                    yield self._stopped(self._waiting.popleft())
                    continue
                try:
                    steps = make_steps(request.options, self._opened.manifest.scheduler)
                    size = request.latents_size(self._opened.manifest)
                    with self._opened.turn():
                        work = self._networks.work(steps.most_branches, size)
                        if work != self._work and (self._making or self._ready):
                            break
                        self._waiting.popleft()
                        self._use(work)
                        making = Making(request, steps, work, self._networks.generation)
                        track = encode(making, self._networks, self._opened.manifest, self._styles)
                    self._ready.append((making, track))
                except (PixrtError, MemoryError) as error:
                    if self._waiting and self._waiting[0] is request:
                        self._waiting.popleft()
                    yield Failed(request, _told(error))
        finally:
            self._close_stages(Component.TEXT_ENCODER, Component.VAE_ENCODER)
        yield from self._join()

    def _has_room(self) -> bool:
        return len(self._making) + len(self._ready) < self._slots

    def _use(self, work: Work) -> None:
        """Work on this from now on: another work's pool goes back."""
        if work != self._work:
            self._give_back()
            self._work = work

    def _join(self) -> Iterator[Event]:
        while self._ready:
            making, track = self._ready[0]
            try:
                with self._opened.turn():
                    self._restart_after_changes()
                    if not self._ready:
                        return
                    pool = self._take_pool(making.clock)
                    if not pool.fits(making.steps):
                        return
                    self._ready.popleft()
                    with making.clock.stage("denoise"):
                        self._making[pool.join(track)] = making
            except (PixrtError, MemoryError) as error:
                if self._ready and self._ready[0][0] is making:
                    self._ready.popleft()
                yield Failed(making.request, _told(error))

    def _take_pool(self, clock: Stopwatch) -> Pool:
        assert self._work is not None
        if self._pool is None:
            self._taken = self._slots, self._networks.generation
            self._pool = self._networks.take_pool(self._work, self._slots, clock)
        return self._pool

    def _step(self) -> Iterator[Event]:
        """One step of every picture in the pool, and what follows from it."""
        try:
            with self._opened.turn():
                self._restart_after_changes()
                if self._pool is None:
                    return
                started, pool = time.perf_counter(), self._pool
                ended = pool.step()
                if self._tells_steps:
                    pool.wait()
                seconds = time.perf_counter() - started
        except (PixrtError, MemoryError) as error:
            yield from self._broken(error)
            return
        rows = sum(making.rows for making in self._making.values())
        for making in self._making.values():
            making.clock.add("denoise", seconds)
            making.clock.add("denoise_share", seconds * making.rows / rows)
            making.done += 1
        if self._tells_steps:
            matrix = self._opened.manifest.preview
            for slot, making in tuple(self._making.items()):
                yield Stepped(making.request, making.done, len(making.steps), pool, slot, matrix)
        yield from self._leave(pool, ended)

    def _leave(self, pool: Pool, ended: list[int]) -> Iterator[Event]:
        """Take out pictures that have ended or were cancelled. The consumer may have changed the weights meanwhile."""
        for slot, making in tuple(self._making.items()):
            is_cancelled = making.request.index in self._cancelled
            if slot not in ended and not is_cancelled:
                continue
            del self._making[slot]
            try:
                with self._opened.turn():
                    latents = pool.leave(slot)
            except PixrtError as error:
                yield Failed(making.request, _told(error))
                continue
            if is_cancelled:
                yield self._stopped(making.request, making.done, len(making.steps))
            else:
                self._ended.append((making, latents))

    def _finish_ended(self) -> Iterator[Event]:
        """Decode what has ended. With low memory all of the pool has to, and its network is closed before."""
        if self._networks.low_memory:
            if self._making or not self._ended:
                return
            self._give_back()
            self._close_stages(Component.UNET)
        opened = self._opened
        try:
            while self._ended:
                making, latents = self._ended.pop(0)
                try:
                    with opened.turn():
                        result = finish(
                            making, latents, self._networks, opened.manifest, opened.backend, opened.loras()
                        )
                except (PixrtError, MemoryError) as error:
                    yield Failed(making.request, _told(error))
                else:
                    yield Made(result)
        finally:
            self._close_stages(Component.VAE_DECODER)

    def _close_stages(self, *components: Component) -> None:
        """With low memory close the networks of stages that are over. A closed editor has none that are open."""
        if self._networks.low_memory:
            with suppress(PixrtError), self._opened.turn():
                for component in components:
                    self._networks.close_stage(component)

    def _broken(self, error: PixrtError | MemoryError) -> Iterator[Event]:
        """A step failed. One picture by itself has failed; several are begun again, fewer at once."""
        makings = [self._making[slot] for slot in sorted(self._making)]
        self._drop_pool()
        if len(makings) == 1:
            yield Failed(makings[0].request, _told(error))
            return
        self._slots = len(makings) // 2
        self._begin_again(makings)

    def _restart_after_changes(self) -> None:
        """If pictures on their way were encoded with other weights, begin all of them again."""
        makings = [*(self._making[slot] for slot in sorted(self._making)), *(making for making, _ in self._ready)]
        if any(making.generation != self._networks.generation for making in makings):
            self._drop_pool()
            self._ready.clear()
            self._begin_again(makings)

    def _begin_again(self, makings: list[Making]) -> None:
        """Put pictures back to the front of what waits, in order; they are decoded already."""
        requests = [replace(making.request, prepared=making.prepared) for making in makings]
        self._waiting.extendleft(reversed(requests))

    def _stopped(self, request: Request, done: int = 0, of: int | None = None) -> Failed:
        of = len(make_steps(request.options, self._opened.manifest.scheduler)) if of is None else of
        error = Cancelled(
            f"picture {request.index} was cancelled after {done} of {of} steps", remedy="Ask for it again"
        )
        return Failed(request, error)

    def _drop_pool(self) -> None:
        self._making.clear()
        self._pool = self._work = None

    def _give_back(self) -> None:
        """Give back the pool, which is empty, for the next run."""
        if self._pool is not None and self._work is not None and not self._networks.low_memory:
            slots, generation = self._taken
            self._networks.give_back(self._pool, self._work, slots, generation)
        self._pool = self._work = None

    def _emptied(self, pool: Pool, slot: int) -> Pool | None:
        """The pool without a picture; None if it cannot be used any more."""
        try:
            with self._opened.turn():
                pool.leave(slot)
        except PixrtError:
            return None
        return pool


def _told(error: PixrtError | MemoryError) -> PixrtError:
    """The error as an event keeps it: running out of memory as one of ours, and nothing of what failed held by it.

    The frames of a traceback keep what their variables name, such as a network on a device, as long as the error lives.
    """
    cause: BaseException | None = error
    while cause is not None:
        clear_frames(cause.__traceback__)
        cause = cause.__cause__
    if isinstance(error, PixrtError):
        return error
    return BackendError(
        "the machine ran out of memory", remedy="Use a smaller --resolution or --max-batch, or --low-memory"
    )
