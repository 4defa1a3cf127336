"""One request to an ASGI application, without a server."""

import asyncio
from typing import Any

import httpx


def ask(app: Any, path: str, method: str = "GET", *, host: str = "127.0.0.1", **given: Any) -> httpx.Response:
    """The answer; `given` are httpx's arguments."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 40000))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **given)

    return asyncio.run(asked())
