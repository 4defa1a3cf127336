"""A bundle's networks on one backend: opened when first needed, closed, given other weights.

Must not import a backend.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from pixrt.backends.protocol import Backend, CanRefit, Engine, NewWeight, OpensAside
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle
from pixrt.core.timing import Stopwatch
from pixrt.errors import EngineError, PixrtError

LOOPS = (Component.UNET, Component.UNET_STEP, Component.UNET_SHALLOW)
Weights = Callable[[], Iterable[NewWeight]]
_REFITTABLE = "Build it with `--refittable`, or merge the LoRA: `pixrt export --lora`, then `pixrt build`"


class Engines:
    """The networks that are open, and the weights they have in place of their own.

    `on_close` is told of every network that is closed, before it is: what is bound to it keeps it alive.
    """

    def __init__(self, bundle: Bundle, backend: Backend, on_close: Callable[[Component], None]) -> None:
        self._bundle = bundle
        self._backend = backend
        self._on_close = on_close
        self._open: dict[Component, Engine] = {}
        self._aside: dict[Component, Future[Engine]] = {}
        self._weights: dict[Component, Weights] = {}

    @property
    def open(self) -> tuple[Component, ...]:
        """The networks that are open, or being opened."""
        return (*self._open, *self._aside)

    @property
    def refitted(self) -> frozenset[Component]:
        """The networks with other weights than the bundle's."""
        return frozenset(tuple(self._weights))  # others may change it meanwhile

    def get(self, component: Component, clock: Stopwatch) -> Engine:
        """A network, opened now if it is not; that is charged to the clock."""
        if component not in self._open:
            with clock.stage("load"):
                self._open[component] = self._opened(component)
        return self._open[component]

    def _opened(self, component: Component) -> Engine:
        begun = self._aside.pop(component, None)
        if begun is not None:
            return begun.result()
        weights = self._weights[component]() if component in self._weights else ()
        return self._backend.open(self._bundle, component, weights)

    def open_aside(self, components: Iterable[Component]) -> None:
        """Begin to open networks with their own weights in a thread, where the backend can: `get` waits for them."""
        if not (isinstance(self._backend, OpensAside) and self._backend.opens_aside):
            return
        known = {*self._open, *self._aside, *self._weights}
        wanted = [component for component in components if component not in known]
        if wanted:
            thread = ThreadPoolExecutor(1, "pixrt-opening")
            for component in wanted:
                self._aside[component] = thread.submit(self._backend.open, self._bundle, component)
            thread.shutdown(wait=False)

    def replace(self, component: Component, weights: Weights | None, *, is_needed: bool) -> None:
        """From now on run a network with these weights, None for its own.

        Raises EngineError if the backend cannot: then nothing has changed, or the network is opened anew. Of a network
        that is not needed that is told when it is.
        """
        problem = self._backend.problem(self._bundle, component, refit=True) if weights and is_needed else None
        if problem is not None:
            raise EngineError(problem, remedy=_REFITTABLE)
        engine = self._open.get(component)
        refitted = False
        try:
            refitted = isinstance(engine, CanRefit) and engine.refit(weights() if weights else ())
        finally:
            if not refitted:  # also one that a failure left half refitted
                self.close(component)
        if weights is None:
            self._weights.pop(component, None)
        else:
            self._weights[component] = weights

    def close(self, component: Component) -> None:
        """Close a network, if it is open."""
        self._on_close(component)
        begun = self._aside.pop(component, None)
        if begun is not None and not begun.cancel():
            with suppress(PixrtError):  # nobody needs it any more
                begun.result().close()
        engine = self._open.pop(component, None)
        if engine is not None:
            engine.close()
