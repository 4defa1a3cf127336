"""The server's life: its port, its worker, its signals and its end. Must not import numpy or Pillow."""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp

from pixrt.errors import Cancelled, OptionError, PixrtError
from pixrt.options.serve import ServeOptions
from pixrt.serve import logs, telemetry
from pixrt.serve.guard.connections import Connection
from pixrt.serve.guard.keys import Keys
from pixrt.serve.guard.protect import protect
from pixrt.serve.logs import tell
from pixrt.serve.memory import keep_memory, settle
from pixrt.serve.metrics import Metrics
from pixrt.serve.settings import DEFAULT, Settings

if TYPE_CHECKING:
    from pixrt.serve.messages import Model
    from pixrt.serve.service import Service

Say = Callable[[str], None]
_BACKLOG = 2048
_LAST_ANSWERS_SECONDS = 10  # for clients that take what is finished, after the last picture


def serve(settings: Settings, say: Say, *, keys: Keys | None = None, is_quiet: bool = False) -> None:
    """Serve until a signal says to stop; `say` gets the address once it answers. Raises PixrtError.

    `keys` are in place of those of a file. A quiet server logs only what warns.

    After SIGTERM or Ctrl-C what is accepted is finished first; a second one ends at once (Cancelled). SIGHUP reads the
    keys file again.
    """
    from pixrt.serve.app import make_app, warm_up

    keys = check_files(settings.options) or keys
    logs.configure(settings.options.log_format, logging.WARNING if is_quiet else logging.INFO)
    if settings.options.otel:
        telemetry.start()
    service = _service(settings)
    tell("settings", {name: value for name, value, source in settings.describe() if source != DEFAULT})
    for note in (*settings.notes, *(keys.notes if keys else ())):
        tell(note, level=logging.WARNING)
    keep_memory()
    app = make_app(service)
    asyncio.run(warm_up(app))
    settle()
    run(app, service, keys, say)


def check(settings: Settings) -> "Model":
    """What `serve` would do first, without serving: files, the port, the worker and its bundle. Raises PixrtError."""
    check_files(settings.options)
    _listener(settings.options).close()
    service = _service(settings)

    async def started() -> "Model":
        try:
            await service.start()
            assert service.model is not None
            return service.model
        finally:
            await service.close()

    return asyncio.run(started())


def check_files(options: ServeOptions) -> Keys | None:
    """The keys, if there are any, and whether the other files and folders are there. Raises OptionError."""
    for name in ("lora_folder", "embedding_folder"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise OptionError(f"there is no folder {folder}", remedy="Check it", option=name)
    for name in ("c2pa_cert", "c2pa_key"):
        file = getattr(options, name)
        if file is not None and not os.access(file, os.R_OK):
            raise OptionError(f"the file {file} cannot be read", remedy=f"Check {name}", option=name)
    return None if options.keys_file is None else Keys(options.keys_file)


def run(app: ASGIApp, service: "Service", keys: Keys | None, say: Say) -> None:
    """Serve an application of a service's; see `serve`."""
    server = make_server(app, service, keys)
    with (
        contextlib.closing(_listener(service.options)) as listener,
        asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
    ):
        runner.run(_Life(server, service, keys, say).live(listener))


def make_server(app: ASGIApp, service: "Service", keys: Keys | None = None) -> uvicorn.Server:
    """uvicorn with the guard around an application, and with bounds on connections. It leaves signals alone."""
    connection: Any = functools.partial(Connection, options=service.options, metrics=service.metrics)
    config = uvicorn.Config(
        protect(app, service, keys),
        http=connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """uvicorn's, which would stop to listen at the first signal, and kill itself by it afterwards."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Life:
    """Start, service, draining, end."""

    def __init__(self, server: uvicorn.Server, service: "Service", keys: Keys | None, say: Say) -> None:
        self._server = server
        self._service = service
        self._keys = keys
        self._say = say
        self._stop, self._stop_now = asyncio.Event(), asyncio.Event()

    async def live(self, listener: socket.socket) -> None:
        """All of it. Raises what starting the service does, and Cancelled."""
        serving = asyncio.create_task(self._server.serve([listener]))
        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM), self._on_stop)
        if hasattr(signal, "SIGHUP"):
            if self._keys is not None and self._keys.has_file:
                handlers[signal.SIGHUP] = self._on_reread
            elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # its terminal is closed, without nohup
                handlers[signal.SIGHUP] = self._on_stop
        with _signals(handlers):
            try:
                # The port answers meanwhile: live, and not ready.
                await _first(self._service.start(), self._stop.wait(), asyncio.shield(serving))
                if not self._stop.is_set():
                    self._tell_address(listener)
                    await _first(self._stop.wait(), asyncio.shield(serving))
                tell("draining", {"requests": len(self._server.server_state.tasks)})
                await _first(self._drain(), self._stop_now.wait())
            finally:
                self._server.should_exit = True
                self._server.force_exit = self._stop_now.is_set()
                await self._service.close()
                await _first(asyncio.shield(serving), self._stop_now.wait())
        if self._stop_now.is_set():
            raise Cancelled("stopped at once", remedy="What was not finished is lost")
        tell("stopped")

    async def _drain(self) -> None:
        seconds = self._service.options.drain_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._service.drain()
        except TimeoutError:
            tell("what is not finished fails now", {"drain_seconds": seconds}, level=logging.WARNING)

    def _tell_address(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        tell("listening", {"address": address})
        self._say(address)

    def _on_stop(self) -> None:
        (self._stop_now if self._stop.is_set() else self._stop).set()

    def _on_reread(self) -> None:
        assert self._keys is not None
        try:
            self._keys.read()
            tell("the keys file is read again", {"names": " ".join(self._keys.names)})
        except PixrtError as error:
            tell(f"the keys stay as they were: {error}", level=logging.ERROR)


async def _first(*awaitables: Awaitable[Any]) -> None:
    """Wait for the first of them, and cancel the others. Raises what the first raised."""
    futures = [asyncio.ensure_future(each) for each in awaitables]
    try:
        done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
    for future in done:
        future.result()


@contextlib.contextmanager
def _signals(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Call them on the event loop, as long as this lasts. Not by `loop.add_signal_handler`: Windows has none."""
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(handlers[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in handlers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _service(settings: Settings) -> "Service":
    from pixrt.serve.service import Service

    return Service(settings, Metrics())


def _listener(options: ServeOptions) -> socket.socket:
    """The socket, bound. Raises OptionError."""
    host, port = options.host, options.port
    is_six = ":" in host
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_six else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        problem = f"port {port} of {host or 'every address'} cannot be listened on: {error.strerror or error}"
        raise OptionError(problem, remedy="Choose another --port, or 0 for a free one", option="port") from None
