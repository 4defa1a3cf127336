"""KServe v2 against a service that makes no pictures: what is asked of it, and what comes back."""

import asyncio
import base64
import dataclasses
import json
import struct
from typing import Any

import httpx
import pytest

from pixrt.options.tasks import EditOptions, GenerateOptions, StyleOptions
from pixrt.serve.app import make_app
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Asked, Output, RawPicture, Ticket
from serving import MADE, MODEL, PICTURE, FakeService, Visit, client_of, done, failing, hold

INFER = "/v2/models/demo/infer"
FILE = base64.b64encode(PICTURE).decode()
IMAGE = {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [FILE]}
PIXELS = {"name": "IMAGE", "datatype": "UINT8", "shape": [2, 1, 2, 3], "data": list(range(12))}
TEXT = {"name": "INSTRUCTION", "datatype": "BYTES", "shape": [1], "data": ["make it red"]}


def ask(service: FakeService, path: str, method: str = "GET", **given: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with client_of(make_app(service)) as client:
            return await client.request(method, path, **given)

    return asyncio.run(asked())


def infer(service: FakeService, *inputs: Any, **more: Any) -> httpx.Response:
    return ask(service, INFER, "POST", json={"inputs": list(inputs), **more})


def asked_by(*inputs: Any, **more: Any) -> list[Asked]:
    service = FakeService()
    answer = infer(service, *inputs, **more)
    assert answer.status_code == 200, answer.text
    return service.asked


def pixels(ticket: Ticket) -> None:
    """The result is what a picture of two pixels looks like."""
    done(ticket)
    assert ticket.result is not None
    data = bytes([int(ticket.asked.options.seed or 0)] * 6)
    ticket.result = dataclasses.replace(ticket.result, data=data, size=(2, 1))


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_metadata(version: str) -> None:
    assert "binary_tensor_data" in ask(FakeService(), "/v2").json()["extensions"]
    model = ask(FakeService(), f"/v2/models/demo{version}").json()
    assert (model["name"], model["versions"]) == ("demo", ["1"])
    assert [each["name"] for each in model["inputs"]] == ["IMAGE", "INSTRUCTION", "MASK", "STYLE"]
    assert ask(FakeService(), f"/v2/models/demo{version}/ready").json() == {"name": "demo", "ready": True}


@pytest.mark.parametrize("path", ["other", "other/ready", "demo/versions/2", "demo/versions/2/ready"])
def test_another_model_or_version(path: str) -> None:
    answer = ask(FakeService(), f"/v2/models/{path}")
    assert answer.status_code == 404
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    "said",
    [
        {"id": "\ud800", "inputs": []},
        {"inputs": [{"name": "\ud800", "datatype": "FP32"}]},
        {"inputs": [IMAGE, TEXT], "outputs": [{"name": "IMAGE", "parameters": {"\ud800": 1}}]},
        {"inputs": [IMAGE, TEXT], "parameters": {"\ud800": 1}},
    ],
)
def test_half_of_a_character_in_any_name(said: dict[str, Any]) -> None:
    answer = ask(FakeService(), INFER, "POST", content=json.dumps(said).encode())
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_not_ready() -> None:
    assert ask(FakeService(is_ready=False), "/v2/health/live").json() == {"live": True}
    assert ask(FakeService(is_ready=False), "/v2/health/ready").status_code == 503
    assert ask(FakeService(is_ready=False), "/v2/models/demo/ready").status_code == 503
    answer = ask(FakeService(model=None), "/v2/models/demo")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


def test_a_file_in_json() -> None:
    answer = infer(FakeService(), IMAGE, TEXT, id="mine", parameters={"seed": 4, "steps": "3"})
    body = answer.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("mine", "demo", "1")
    image, seed, info = body["outputs"]
    assert image == {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(MADE).decode()]}
    assert seed == {"name": "SEED", "datatype": "INT64", "shape": [1], "data": [4]}
    assert json.loads(info["data"][0])["size"] == [64, 48]
    assert answer.headers["content-type"] == "application/json"


def test_what_is_asked_for() -> None:
    (asked,) = asked_by(
        IMAGE,
        TEXT,
        {"name": "MASK", "datatype": "BYTES", "shape": [1, 1], "data": [FILE]},
        parameters={
            "seed": 4,
            "num_inference_steps": 3,
            "guidance_interval": "0 0.5",
            "output_format": "webp",
            "output_compression": 80,
            "lora": "watercolour:0.5",
            "timeout": 1_500_001,
        },
    )
    assert asked.options == EditOptions(seed=4, steps=3, guidance_interval=(0, 0.5))
    assert (asked.text, asked.image, asked.mask) == ("make it red", PICTURE, PICTURE)
    assert (asked.output, asked.loras, asked.deadline_ms) == (Output("webp", 80), (("watercolour", 0.5),), 1501)


def test_tasks_follow_from_what_is_given() -> None:
    assert asked_by(TEXT, parameters={"seed": 1})[0].options == GenerateOptions(seed=1)
    style = {"name": "STYLE", "datatype": "BYTES", "shape": [1], "data": [FILE]}
    assert asked_by(IMAGE, TEXT, style, parameters={"seed": 1})[0].options == StyleOptions(seed=1)


def test_pixels_of_a_batch_become_pictures_and_pixels_again() -> None:
    texts = {**TEXT, "shape": [2], "data": ["a", "b"]}
    mask = {"name": "MASK", "datatype": "UINT8", "shape": [1, 1, 2], "data": [0, 255]}
    service = FakeService(on_accepted=pixels)
    answer = infer(service, PIXELS, texts, mask, parameters={"seed": 4})
    first, second = service.asked
    assert (first.text, first.image) == ("a", RawPicture(bytes(range(6)), width=2, height=1))
    assert (second.text, second.image) == ("b", RawPicture(bytes(range(6, 12)), width=2, height=1))
    assert first.mask == second.mask == RawPicture(bytes([0, 0, 0, 255, 255, 255]), width=2, height=1)
    assert (first.options.seed, second.options.seed, first.output.format) == (4, 5, "raw")
    image, seeds, _ = answer.json()["outputs"]
    assert (image["shape"], image["datatype"]) == ([2, 1, 2, 3], "UINT8")
    assert image["data"] == [4] * 6 + [5] * 6
    assert seeds["data"] == [4, 5]


def test_drawn_seeds_are_counted_up() -> None:
    first, second = asked_by(PIXELS, TEXT, parameters={"output_format": "png"})
    assert second.options.seed == (first.options.seed or 0) + 1
    assert first.output.format == "png"


def test_binary_data_both_ways() -> None:
    length = struct.pack("<I", len(PICTURE)) + PICTURE
    head = {
        "inputs": [
            {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(length)}}
        ],
        "outputs": [{"name": "SEED"}, {"name": "IMAGE", "parameters": {"binary_data": True}}],
        "parameters": {"seed": 4},
    }
    head["inputs"].append(TEXT)
    text = json.dumps(head).encode()
    service = FakeService()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = ask(service, INFER, "POST", content=text + length, headers=headers)
    assert service.asked[0].image == PICTURE
    at = int(answer.headers["inference-header-content-length"])
    seed, image = json.loads(answer.content[:at])["outputs"]
    assert (seed["name"], seed["data"]) == ("SEED", [4])
    assert image["parameters"] == {"binary_data_size": 4 + len(MADE)}
    assert answer.content[at:] == struct.pack("<I", len(MADE)) + MADE


@pytest.mark.parametrize(
    ("inputs", "parameters", "words"),
    [
        ([IMAGE], {}, "no INSTRUCTION"),
        ([TEXT, {**IMAGE, "name": "PICTURE"}], {}, "no input 'PICTURE'"),
        ([IMAGE, {**TEXT, "shape": [1, 1, 1]}], {}, "shape of INSTRUCTION is [1, 1, 1]"),
        ([IMAGE, {**TEXT, "datatype": "UINT8", "data": [7]}], {}, "INSTRUCTION is UINT8"),
        ([{**IMAGE, "data": ["%"]}, TEXT], {}, "not base64"),
        ([{**PIXELS, "shape": [1, 12]}, TEXT], {}, "shape of IMAGE is [1, 12]"),
        ([{**PIXELS, "shape": [3, 1, 4, 1]}, TEXT], {}, "shape of IMAGE is [3, 1, 4, 1]"),
        ([PIXELS, {**TEXT, "shape": [3], "data": ["a", "b", "c"]}], {}, "IMAGE has 2 elements"),
        ([{**TEXT, "shape": [11], "data": ["a"] * 11}], {}, "11 pictures"),
        ([IMAGE, TEXT], {"step": 3}, "'step'"),
        ([IMAGE, TEXT], {"steps": 0}, "steps is 0"),
        ([IMAGE, TEXT], {"n": 2}, "no parameter n"),
        ([IMAGE, TEXT], {"priority": 2}, "'priority'"),
        ([IMAGE, TEXT], {"timeout": "1"}, "timeout is '1'"),
        ([IMAGE, TEXT], {"task": "inpaint"}, "cannot inpaint"),
        ([IMAGE, TEXT], {"output_format": "gif"}, "output_format"),
        ([IMAGE, TEXT], {"lora": "oil"}, "no LoRA 'oil'"),
        ([IMAGE, TEXT], {"prompt": "x"}, "no parameter prompt"),
    ],
)
def test_what_is_wrong_is_told(inputs: list[Any], parameters: dict[str, Any], words: str) -> None:
    service = FakeService()
    answer = infer(service, *inputs, parameters=parameters)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert not service.accepted


def test_an_output_that_is_not_there() -> None:
    assert "no output 'MASK'" in infer(FakeService(), IMAGE, TEXT, outputs=[{"name": "MASK"}]).json()["error"]


def test_a_compressed_body_is_refused() -> None:
    answer = ask(FakeService(), INFER, "POST", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (415, "The body is compressed. Send it as it is.")


def test_pictures_of_several_sizes_are_no_tensor() -> None:
    def sizes(ticket: Ticket) -> None:
        done(ticket)
        assert ticket.result is not None
        ticket.result = dataclasses.replace(ticket.result, size=(2, int(ticket.asked.options.seed or 0)))

    files = {**IMAGE, "shape": [2], "data": [FILE, FILE]}
    answer = infer(FakeService(on_accepted=sizes), files, TEXT, parameters={"seed": 1, "output_format": "raw"})
    assert (answer.status_code, "2x1, 2x2" in answer.json()["error"]) == (400, True)


def test_a_failure_is_a_sentence() -> None:
    problem = Problem(415, "unsupported_image", "It is no picture.", "image")
    answer = infer(FakeService(on_accepted=failing(problem)), IMAGE, TEXT)
    assert (answer.status_code, answer.json()) == (415, {"error": "It is no picture."})


def test_a_client_that_goes_away_cancels_its_pictures() -> None:
    async def leave() -> FakeService:
        service = FakeService(on_accepted=hold)
        body = json.dumps({"inputs": [PIXELS, TEXT]}).encode()
        visit = Visit(make_app(service), "POST", INFER, body, {"content-type": "application/json"})
        await visit.started()
        visit.go_away()
        await visit.task
        return service

    service = asyncio.run(leave())
    assert len(service.accepted) == 2
    assert service.cancelled == service.accepted


def test_the_model_of_the_metadata_is_the_services() -> None:
    service = FakeService(model=dataclasses.replace(MODEL, name="mine", tasks=("generate", "img2img", "inpaint")))
    assert [each["name"] for each in ask(service, "/v2/models/mine").json()["inputs"]][-1] == "MASK"
    given = {"inputs": [IMAGE, TEXT], "parameters": {"strength": 0.5}}
    assert ask(service, "/v2/models/mine/infer", "POST", json=given).status_code == 200
    assert service.asked[0].options.task == "img2img"
