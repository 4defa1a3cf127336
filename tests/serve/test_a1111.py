"""A1111's interface against a service that makes no pictures. The fields by themselves: test_a1111_fields.py."""

import asyncio
import base64
import dataclasses
import json
from typing import Any

import httpx
import pytest

from pixrt.options.tasks import EditOptions, GenerateOptions, InpaintOptions
from pixrt.serve.app import make_app
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Ticket
from serving import MADE, MODEL, PICTURE, SHA256, FakeService, Visit, client_of, failing, hold, step

API = "/sdapi/v1"
EDIT = {"init_images": [base64.b64encode(PICTURE).decode()], "prompt": "make it red", "seed": 4}
TITLE = f"demo [{SHA256[:10]}]"


def ask(service: FakeService, path: str, body: Any = None) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with client_of(make_app(service)) as client:
            return await (client.get(API + path) if body is None else client.post(API + path, json=body))

    return asyncio.run(asked())


def test_an_edit() -> None:
    service = FakeService()
    said = {"steps": 3, "cfg_scale": 2, "image_cfg_scale": 1.5, "width": 96, "height": 64, "n_iter": 2}
    prefixed = [f"data:image/png;base64,{EDIT['init_images'][0]}"]
    answer = ask(service, "/img2img", EDIT | said | {"init_images": prefixed, "sampler_name": "Euler"})
    body = answer.json()
    assert [base64.b64decode(image) for image in body["images"]] == [MADE, MADE]
    assert body["parameters"]["prompt"] == "make it red"
    assert not {"init_images", "mask"} & body["parameters"].keys()
    info = json.loads(body["info"])
    assert (info["seed"], info["all_seeds"], info["width"], info["height"]) == (4, [4, 5], 96, 64)
    assert (info["sd_model_name"], info["sd_model_hash"]) == ("demo", SHA256[:10])
    assert info["infotexts"][1].startswith("make it red\nSteps: 3, ")
    assert "Seed: 5, Size: 96x64" in info["infotexts"][1]
    first = service.asked[0]
    assert first.options == EditOptions(steps=3, guidance_scale=2, image_guidance_scale=1.5, scheduler="euler", seed=4)
    assert (first.text, first.image, first.size, first.same_shape) == ("make it red", PICTURE, (96, 64), False)


def test_a_mask_turned_around() -> None:
    service = FakeService(model=dataclasses.replace(MODEL, tasks=("generate", "img2img", "inpaint")))
    mask = {"mask": EDIT["init_images"][0], "inpainting_mask_invert": 1, "inpaint_full_res_padding": 8}
    assert ask(service, "/img2img", EDIT | mask | {"denoising_strength": 1, "mask_blur": 3}).status_code == 200
    asked = service.asked[0]
    assert asked.options == InpaintOptions(seed=4, strength=1, mask_blur=3, mask_padding=8, invert_mask=True)
    assert (asked.mask, asked.size) == (PICTURE, None)


def test_a_generation_with_a_lora() -> None:
    service = FakeService()
    said = {"prompt": "a circle <lora:watercolour:0.5>", "seed": 4, "width": 64, "height": 96}
    assert ask(service, "/txt2img", said).status_code == 200
    asked = service.asked[0]
    assert asked.options == GenerateOptions(seed=4, width=64, height=96)
    assert (asked.text, asked.loras, asked.size) == ("a circle", (("watercolour", 0.5),), None)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ({"cfg_scale": -1}, "invalid_value", "cfg_scale: guidance_scale is -1"),
        ({"steps": "many"}, "invalid_value", "steps is 'many'"),
        ({"width": 7}, "invalid_value", "width is 7"),
        ({"batch_size": 4, "n_iter": 4}, "invalid_value", "batch_size x n_iter is 16"),
        ({"enable_hr": True}, "unknown_parameter", "enable_hr"),
        ({"init_images": ["%"]}, "invalid_value", "init_images"),
        ({"init_images": ["http://127.0.0.1/a.png"]}, "unsupported_parameter", "init_images"),
        ({"prompt": "<lora:oil:1> x"}, "invalid_lora", "no LoRA 'oil'"),
        ({"prompt": "x" * 40_000}, "string_above_max_length", "prompt"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "unsupported_parameter", "CLIP_stop_at_last_layers"),
        ({"override_settings": [1]}, "invalid_value", "override_settings"),
    ],
)
def test_what_is_wrong_is_told_in_a1111s_shape(said: dict[str, Any], code: str, words: str) -> None:
    service = FakeService()
    answer = ask(service, "/img2img", EDIT | said)
    body = answer.json()
    assert (answer.status_code, body["error"]) == (400, code)
    assert words in body["detail"]
    assert body["detail"] == body["errors"]
    assert not service.accepted


def test_a_failure_names_a1111s_field() -> None:
    problem = Problem(415, "unsupported_image", "It is no picture.", "image")
    answer = ask(FakeService(on_accepted=failing(problem)), "/img2img", EDIT)
    assert (answer.status_code, answer.json()["detail"]) == (415, "init_images: It is no picture.")


@pytest.mark.parametrize(
    "body", ["3", '{"prompt": "\\ud800"}', '{"subseed": NaN}', '{"subseed": "\\ud800"}', "[" * 5000, "{"]
)
def test_odd_bodies_are_no_failures(body: str) -> None:
    async def asked() -> httpx.Response:
        async with client_of(make_app(FakeService())) as client:
            headers = {"content-type": "application/json"}
            return await client.post(f"{API}/txt2img", content=body, headers=headers)

    assert asyncio.run(asked()).status_code == (200 if "NaN" in body else 400)


def test_the_model_and_the_settings() -> None:
    service = FakeService()
    (model,) = ask(service, "/sd-models").json()
    assert (model["title"], model["model_name"], model["sha256"]) == (TITLE, "demo", SHA256)
    assert ask(service, "/options").json()["sd_model_checkpoint"] == TITLE
    for name in ("demo", TITLE, SHA256):
        assert ask(service, "/options", {"sd_model_checkpoint": name}).status_code == 200
    assert ask(service, "/options", {"sd_model_checkpoint": "other"}).status_code == 404
    assert ask(service, "/options", {"CLIP_stop_at_last_layers": 2}).status_code == 400
    assert ask(service, "/img2img", EDIT | {"override_settings": {"sd_model_checkpoint": "demo"}}).status_code == 200


def test_the_lists() -> None:
    service = FakeService()
    assert "Euler a" in [each["name"] for each in ask(service, "/samplers").json()]
    assert "karras" in [each["name"] for each in ask(service, "/schedulers").json()]
    assert [each["name"] for each in ask(service, "/loras").json()] == ["watercolour", "ink:wash"]
    assert ask(service, "/upscalers").json() == []
    assert ask(service, "/scripts").json() == {"txt2img": [], "img2img": []}
    assert ask(service, "/refresh-checkpoints", {}).status_code == 200
    assert ask(service, "/memory").status_code == 404


def test_progress_and_interrupt_see_the_callers_own_pictures_of_this_interface() -> None:
    """A second client's, and one that the same client asked for elsewhere, stay as they are."""

    async def run() -> None:
        service = FakeService(on_accepted=hold)
        app = make_app(service)
        body = json.dumps(EDIT | {"batch_size": 2}).encode()
        headers = {"content-type": "application/json"}
        mine = Visit(app, "POST", f"{API}/img2img", body, headers)
        elsewhere = Visit(app, "POST", "/hf/text-to-image", b'{"inputs": "a circle"}', headers)
        await mine.started()
        await elsewhere.started()
        first, second, third = service.accepted
        async with client_of(app) as another:
            answer = await another.post(f"{API}/interrupt")
            assert (answer.json(), service.cancelled) == ({}, [])
            assert (await another.get(f"{API}/progress")).json()["state"]["job_count"] == 0
        step(second, 1, of=4)
        shown = await _ask(app, "GET", "/progress")
        assert shown["progress"] == 0.25
        assert 0 < shown["eta_relative"] <= 2
        assert (shown["state"]["job_count"], shown["state"]["sampling_step"], shown["state"]["job"]) == (
            2,
            1,
            second.id,
        )
        await _ask(app, "POST", "/interrupt")
        assert service.cancelled == [first, second]
        await mine.task
        assert (mine.status, json.loads(mine.text)["error"]) == (499, "cancelled")
        assert (await _ask(app, "GET", "/progress"))["progress"] == 0
        assert not third.state.is_end
        elsewhere.go_away()
        await elsewhere.task

    asyncio.run(run())


async def _ask(app: Any, method: str, path: str) -> Any:
    """By the client that `Visit` is."""
    visit = Visit(app, method, API + path)
    await visit.task
    return json.loads(visit.text)


def test_a_client_that_goes_away_cancels_its_pictures() -> None:
    async def leave() -> list[Ticket]:
        service = FakeService(on_accepted=hold)
        body = json.dumps(EDIT).encode()
        visit = Visit(make_app(service), "POST", f"{API}/img2img", body, {"content-type": "application/json"})
        await visit.started()
        visit.go_away()
        await visit.task
        return service.cancelled

    assert len(asyncio.run(leave())) == 1
