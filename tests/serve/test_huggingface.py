"""Hugging Face's interface against a service that makes no pictures: requests as `InferenceClient` sends them."""

import asyncio
import base64
from typing import Any

import httpx
import pytest

from pixrt.options.tasks import EditOptions, GenerateOptions
from pixrt.serve.app import make_app
from pixrt.serve.tickets import Output
from serving import MADE, PICTURE, FakeService, client_of

EDIT, GENERATE = "/hf/image-to-image", "/hf/text-to-image"
FILE = base64.b64encode(PICTURE).decode()


def post(service: FakeService, path: str, **given: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with client_of(make_app(service)) as client:
            return await client.post(path, **given)

    return asyncio.run(asked())


def test_an_edit() -> None:
    service = FakeService()
    parameters = {"prompt": "make it red", "num_inference_steps": 3, "guidance_scale": 2, "seed": 4}
    parameters |= {"target_size": {"width": 96, "height": 64}, "negative_prompt": "blue"}
    body = {"inputs": FILE, "parameters": parameters}
    answer = post(service, EDIT, json=body, headers={"Accept": "image/png"})
    assert (answer.status_code, answer.content) == (200, MADE)
    assert (answer.headers["content-type"], answer.headers["x-seed"]) == ("image/png", "4")
    asked = service.asked[0]
    assert asked.options == EditOptions(steps=3, guidance_scale=2, seed=4, negative_prompt="blue")
    assert (asked.text, asked.image, asked.size, asked.same_shape) == ("make it red", PICTURE, (96, 64), True)


def test_a_generation() -> None:
    service = FakeService()
    body = {"inputs": "a circle", "parameters": {"width": 64, "height": 96, "scheduler": "ddim", "eta": 0.5, "seed": 1}}
    assert post(service, GENERATE, json=body).content == MADE
    asked = service.asked[0]
    assert asked.options == GenerateOptions(width=64, height=96, scheduler="ddim", eta=0.5, seed=1)
    assert (asked.text, asked.image) == ("a circle", None)


@pytest.mark.parametrize(
    ("accept", "said", "output"),
    [
        ("image/jpeg", {}, Output("jpeg")),
        ("image/webp,*/*", {}, Output("webp")),
        ("*/*", {}, Output("png")),
        ("image/png", {"output_format": "jpeg", "output_compression": 50}, Output("jpeg", 50)),
    ],
)
def test_the_format_is_what_the_client_accepts(accept: str, said: dict[str, Any], output: Output) -> None:
    service = FakeService()
    body = {"inputs": "a circle", "parameters": said}
    answer = post(service, GENERATE, json=body, headers={"Accept": accept})
    assert service.asked[0].output == output
    assert answer.headers["content-type"] == f"image/{output.format}"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (EDIT, {"inputs": FILE}, "no prompt"),
        (EDIT, {"parameters": {"prompt": "x"}}, "no image"),
        (EDIT, {"inputs": "%", "parameters": {"prompt": "x"}}, "not base64"),
        (EDIT, {"inputs": "https://a.b/c.png", "parameters": {"prompt": "x"}}, "no text is taken for"),
        (EDIT, {"inputs": FILE, "parameters": {"prompt": "x", "steps": 0}}, "steps is 0"),
        (EDIT, {"inputs": FILE, "parameters": {"prompt": "x", "stepz": 1}}, "'stepz'"),
        (EDIT, {"inputs": FILE, "parameters": {"prompt": "x", "target_size": 3}}, "target_size"),
        (EDIT, {"inputs": FILE, "parameters": {"prompt": "x", "n": 2}}, "'n'"),
        (EDIT, {"inputs": FILE, "parameters": {"prompt": "x", "image": FILE}}, "'image'"),
        (EDIT, {"inputs": FILE, "options": {}}, "'options'"),
        (EDIT, {"inputs": FILE, "parameters": []}, "no object"),
        (EDIT, {"inputs": FILE, "parameters": [1]}, "no object"),
        (EDIT, [], "no object"),
        (GENERATE, {"inputs": ["a"]}, "prompt"),
        (GENERATE, {}, "no prompt"),
    ],
)
def test_what_is_wrong_is_told(path: str, body: Any, words: str) -> None:
    service = FakeService()
    answer = post(service, path, json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert not service.accepted


def test_a_picture_without_an_instruction() -> None:
    answer = post(FakeService(), EDIT, content=PICTURE)
    assert (answer.status_code, "prompt" in answer.json()["error"]) == (400, True)
