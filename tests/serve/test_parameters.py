"""`POST /v1/parameters`: what a picture says, as a job for this server."""

import base64
from typing import Any

import httpx
import pytest

from asking import ask
from guarded import GuardedService, answered, guarded
from pixrt.options.tasks import EditOptions
from pixrt.pictures.a1111 import read_a1111
from pixrt.serve.interfaces.parameters import job_of
from pixrt.serve.problems import Problem
from serving import PICTURE, SHA256, hold

PATH = "/v1/parameters"
TASKS = ("edit", "generate", "style")
EDITED = {
    "pixrt": "0.1.0",
    "task": "edit",
    "model": "demo",
    "model_sha256": SHA256,
    "precision": "fp32",
    "notice": "For tests.",
    "instruction": "make it red",
    "preset": None,
    "steps": 20,
    "guidance_scale": 7.5,
    "guidance_interval": [0.0, 0.8],
    "scheduler": "ddim",
    "eta": 0.5,
    "seed": 2**63 - 1,
    "negative_prompt": "",
    "resize": "exact",
    "resolution": 64,
    "image_guidance_scale": 1.5,
    "mask_blur": 2,
    "mask_padding": None,
    "mask_sha256": "0123456789abcdef",
    "history": [{"instruction": "x"}],
}
A1111 = (
    "a castle <lora:watercolour:0.5><lora:oil:1>\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64,"
    " Model: v1-5, Clip skip: 2"
)


def post(service: GuardedService, **given: Any) -> httpx.Response:
    return ask(guarded(service), PATH, "POST", **(given or {"files": {"image": PICTURE}}))


def test_a_picture_of_pixrt_s() -> None:
    service = GuardedService(found=EDITED)
    answer = post(service)
    assert answer.status_code == 200, answer.text
    assert service.read_pictures == [PICTURE]
    assert answer.json() == {
        "source": "pixrt",
        "task": "edit",
        "made_by": "edit",
        "prompt": "make it red",
        "options": {
            **{"steps": 20, "guidance_scale": 7.5, "guidance_interval": [0.0, 0.8], "scheduler": "ddim", "eta": 0.5},
            **{"seed": 2**63 - 1, "negative_prompt": "", "resize": "exact", "resolution": 64},
            **{"image_guidance_scale": 1.5, "mask_blur": 2},
        },
        "loras": [],
        "missing_loras": [],
        "pictures": ["mask"],
        "unknown": [],
        "model": "demo",
        "model_sha256": SHA256,
    }


def test_what_it_answers_is_a_job() -> None:
    service = GuardedService(found=EDITED, on_accepted=hold)
    found = post(service).json()
    picture = base64.b64encode(PICTURE).decode()
    job = {"task": found["task"], "prompt": found["prompt"], "image": picture, "mask": picture, **found["options"]}
    answer = ask(guarded(service), "/v1/jobs", "POST", json=job)
    assert answer.status_code == 202, answer.text
    options = service.asked[0].options
    assert isinstance(options, EditOptions)
    assert (options.seed, options.guidance_interval, options.mask_blur) == (2**63 - 1, (0.0, 0.8), 2)


def test_a_picture_of_a1111_s() -> None:
    service = GuardedService(found=read_a1111(A1111) or {})
    found = post(service).json()
    assert (found["source"], found["task"], found["prompt"]) == ("a1111", "generate", "a castle")
    assert found["options"] == {
        **{"steps": 20, "guidance_scale": 7.0, "seed": 5, "scheduler": "euler_ancestral", "width": 64, "height": 64}
    }
    assert (found["unknown"], found["model"], found["model_sha256"]) == (["Clip skip"], "v1-5", None)
    assert (found["loras"], found["missing_loras"]) == ([{"name": "watercolour", "scale": 0.5}], ["oil"])


def test_as_json() -> None:
    service = GuardedService(found=EDITED)
    assert post(service, json={"image": base64.b64encode(PICTURE).decode()}).status_code == 200
    assert service.read_pictures == [PICTURE]


@pytest.mark.parametrize(
    ("given", "status", "code", "param"),
    [
        ({"data": {"x": "1"}, "files": {"image": PICTURE}}, 400, "unknown_parameter", "x"),
        ({"data": {"image": "/etc/passwd"}, "files": {"a": b"x"}}, 400, "unknown_parameter", "a"),
        ({"json": {"image": "/etc/passwd"}}, 400, "invalid_value", "image"),
        ({"json": {"image": "http://a.example/b.png"}}, 400, "unsupported_parameter", "image"),
        ({"json": {}}, 400, "missing_required_parameter", "image"),
        ({"files": [("image", PICTURE), ("image", PICTURE)]}, 400, "unsupported_parameter", "image"),
        ({"content": PICTURE}, 415, "unsupported_media_type", None),
    ],
)
def test_requests_that_are_wrong(given: Any, status: int, code: str, param: str | None) -> None:
    service = GuardedService(found=EDITED)
    answer = post(service, **given)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert service.read_pictures == []


def test_a_picture_without_any() -> None:
    refusing = Problem(400, "no_parameters", "the picture holds no parameters of pixrt. Use another.", "image")
    answer = post(GuardedService(refuses=refusing))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_parameters")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"task": "upscale"}, "'upscale', a task that this version does not know"),
        ({"task": None}, "'None'"),
        ({"task": ["edit"]}, "a task that this version does not know"),
        ({"instruction": 5}, "without an instruction"),
        ({"steps": 5000}, "steps is 5000. It must be from 1 to 1000."),
        ({"seed": "x"}, "seed is 'x'"),
        ({"guidance_interval": [5]}, "guidance_interval"),
        ({"instruction": "\ud800"}, "no Unicode"),
        ({"negative_prompt": "\ud800"}, "no Unicode"),
    ],
)
def test_parameters_that_no_version_writes(said: dict[str, Any], words: str) -> None:
    answer = post(GuardedService(found=EDITED | said))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_parameters", "image")
    assert words in error["message"]


def test_names_that_anyone_may_have_written() -> None:
    odd = {f"\ud800{number}": 1 for number in range(300)} | {"z" * 5000: 1}
    loras = [{"name": "\ud800"}, {"name": 5}, 5, {}, {"name": "ink", "scale": "x"}, {"name": "ink", "scale": 10**400}]
    said = {"loras": loras, "model": "\udfff", "model_sha256": "\udfff"}
    found = post(GuardedService(found=EDITED | odd | said, loras=("ink",))).json()
    assert len(found["unknown"]) == 100
    assert max(map(len, found["unknown"])) <= 106
    assert (found["loras"], found["model"], found["model_sha256"]) == ([], "\\udfff", "\\udfff")
    assert found["missing_loras"] == ["\\ud800", "ink", "ink"]
    for loras in (None, {}, "x", 5):
        assert post(GuardedService(found=EDITED | {"loras": loras})).status_code == 200


def test_loras() -> None:
    said = [{"name": "ink.safetensors", "sha256": "0", "scale": 0.5}, {"name": "oil.safetensors", "scale": 1}]
    found = job_of(EDITED | {"loras": said}, TASKS, ("ink", "wash"))
    assert [(each.name, each.scale) for each in found.loras] == [("ink", 0.5)]
    assert found.missing_loras == ["oil"]


def test_a_task_that_the_model_cannot_do_becomes_one_that_it_can() -> None:
    found = job_of(read_a1111(A1111) or {}, ("edit",), ())
    assert (found.task, found.made_by) == ("edit", "generate")
    assert found.unknown == ["Clip skip", "height", "width"]
    assert found.options["steps"] == 20
    masked = EDITED | {"task": "inpaint", "strength": 0.4}
    found = job_of(masked, TASKS, ())
    assert (found.task, found.made_by, found.unknown) == ("edit", "inpaint", ["image_guidance_scale", "strength"])
    found = job_of(EDITED, ("generate", "img2img", "inpaint"), ())
    assert (found.task, found.options["steps"]) == ("img2img", 20)


def test_it_belongs_to_jobs_and_takes_no_seat() -> None:
    service = GuardedService(found=EDITED, is_full=True)
    assert post(service).status_code == 200
    assert answered(service) == {("jobs", "200"): 1}
    assert service.accepted == []
