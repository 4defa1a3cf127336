"""A Hugging Face Space of pixrt: its page at `/`, its interfaces, and `edit` for Gradio's clients.

`gradio.Server` runs pixrt's own service, and every picture is asked of that, so there is one queue, one rate for each
visitor, and one set of words for what is wrong, wherever a request comes from. Settings are variables, as of
`pixrt serve`: PIXRT_SERVE_BUNDLE, PIXRT_SERVE_RATE, and so on.
"""

import asyncio
import base64
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

# What a Space is by default; its variables come before this. Gradio reads its own when it is imported.
DEFAULTS = {
    "PIXRT_SERVE_RATE": "30/minute",
    "PIXRT_SERVE_QUEUE": "32",
    "PIXRT_SERVE_MAX_BODY_MIB": "16",
    "PIXRT_SERVE_MAX_UPLOADS_MIB": "128",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
if "SPACE_ID" in os.environ:
    # Anybody may come, under any name; visitors are told apart by what the proxy in front says of them.
    DEFAULTS |= {
        "PIXRT_SERVE_ALLOWED_HOSTS": "*",
        "FORWARDED_ALLOW_IPS": "127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
    }
FILES = tempfile.TemporaryDirectory(prefix="pixrt-space-")  # what Gradio's clients send and get
os.environ |= {"GRADIO_TEMP_DIR": FILES.name, **{name: os.environ.get(name, value) for name, value in DEFAULTS.items()}}

import gradio  # noqa: E402
import httpx  # noqa: E402
from gradio.data_classes import FileData  # noqa: E402
from starlette.responses import Response  # noqa: E402
from starlette.types import Receive, Scope, Send  # noqa: E402

from pixrt.errors import PixrtError  # noqa: E402
from pixrt.page.files import Page  # noqa: E402
from pixrt.serve import logs  # noqa: E402
from pixrt.serve.app import make_app, warm_up  # noqa: E402
from pixrt.serve.guard.protect import protect  # noqa: E402
from pixrt.serve.interfaces.protocols import OTHER, interface_of  # noqa: E402
from pixrt.serve.metrics import Metrics  # noqa: E402
from pixrt.serve.service import Service  # noqa: E402
from pixrt.serve.settings import Settings, read_settings  # noqa: E402

FRAMES = "https://huggingface.co"  # which shows Spaces in a frame
KEPT_MIB = 256  # of files of Gradio's clients
TIDY_SECONDS = 10


class Space(gradio.Server):
    """Gradio's server: pixrt answers what is pixrt's, Gradio the rest.

    pixrt's routes are not among Gradio's, as Gradio puts layers of its own around all of those.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(title="pixrt", docs_url=None, redoc_url=None, openapi_url=None)
        self.failure: PixrtError | None = None
        self.ended = threading.Event()
        self._service = Service(settings, Metrics())
        self._inner = make_app(self._service)
        self._guarded = protect(self._inner, self._service)
        self._page = Page(frame_ancestors=FRAMES)
        self.api(self.edit, name="edit", concurrency_limit=None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer: Any = super().__call__
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/")
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            is_head = scope["method"] == "HEAD"
            if scope["method"] in ("GET", "HEAD") and (found := self._page.answer(path, headers, is_head=is_head)):
                answer = Response(found.body, found.status, found.headers)
            elif interface_of(scope["path"]) is not OTHER and scope["path"] != "/metrics":
                answer = self._guarded
        await answer(scope, receive, send)

    async def edit(
        self,
        image: FileData,
        instruction: str,
        seed: int | None = None,
        options: dict[str, Any] | None = None,
        request: gradio.Request = None,  # type: ignore[assignment]
    ) -> FileData:
        """Edit a picture by an instruction.

        Options are those of `pixrt edit` by their names, such as {"steps": 20}; /v1/schema lists them. The result is a
        PNG with every parameter in it.
        """
        fields = {**(options or {}), "prompt": instruction, "n": 1, "stream": False}
        fields |= {"image": base64.b64encode(read_sent(image)).decode(), **({} if seed is None else {"seed": seed})}
        address = request.client.host if request is not None and request.client else "unknown"
        transport = httpx.ASGITransport(self._guarded, client=(address, 0))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client:
            answer = await client.post("/v1/images/edits", json=fields)
        body = answer.json()
        if answer.is_error:
            raise gradio.Error(body["error"]["message"], print_exception=False)
        made = body["data"][0]
        file = Path(tempfile.mkdtemp(dir=FILES.name)) / f"{made['seed']}.png"
        file.write_bytes(base64.b64decode(made["b64_json"]))
        return FileData(path=str(file), orig_name=file.name, mime_type="image/png")

    @contextlib.asynccontextmanager
    async def live(self, app: Any) -> AsyncIterator[None]:
        """The service's life, which is that of Gradio's server. It answers, not ready, while the model is loaded."""
        await warm_up(self._inner)
        tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._tidy())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await self._service.close()

    async def _start(self) -> None:
        try:
            await self._service.start()
        except PixrtError as error:
            self.failure = error
            self.ended.set()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            tidy(Path(FILES.name), self._service.options.result_seconds, KEPT_MIB << 20)


def read_sent(image: Any) -> bytes:
    """The bytes of a picture that a client has sent. Raises gradio.Error for another path: it comes from the client."""
    path = Path(str(image["path"] if isinstance(image, dict) else image.path)).resolve()
    if not path.is_relative_to(Path(FILES.name).resolve()) or not path.is_file():
        raise gradio.Error("image is no picture that was sent. Send it: handle_file(PATH).", print_exception=False)
    return path.read_bytes()


def tidy(folder: Path, seconds: float, most: int) -> None:
    """Remove files that are older, and of the rest the oldest until they are so many bytes."""
    files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.rglob("*") if path.is_file())
    room = sum(size for _, size, _ in files) - most
    for modified, size, path in files:
        if modified < time.time() - seconds or room > 0:
            path.unlink(missing_ok=True)
            room -= size


def main() -> None:
    """Serve until a signal says to stop."""
    settings = read_settings({})
    logs.configure(settings.options.log_format)
    space = Space(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: space.ended.set())
    _, url, _ = space.launch(
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=settings.options.max_body_mib << 20,
        app_kwargs={"lifespan": space.live},
    )
    print(url, flush=True)
    space.ended.wait()
    space.get_blocks().close()
    if space.failure is not None:
        sys.exit(f"{space.failure}")


if __name__ == "__main__":
    main()
