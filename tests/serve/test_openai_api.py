"""OpenAI's images API: what comes back, streams, errors, and clients that go away."""

import asyncio
import base64
from typing import Any

import httpx

from pixrt.serve.app import make_app
from serving import MADE, PICTURE, FakeService, client_of

FILE = {"image": ("p.png", PICTURE, "image/png")}


def post(service: FakeService, path: str, **given: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with client_of(make_app(service)) as client:
            return await client.post(path, **given)

    return asyncio.run(asked())


def test_an_edit() -> None:
    answer = post(FakeService(), "/v1/images/edits", data={"prompt": "make it red", "seed": "4", "n": "2"}, files=FILE)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert base64.b64decode(body["data"][0]["b64_json"]) == MADE
    assert body["seeds"] == [4, 5]
