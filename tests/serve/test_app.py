"""The application: errors in one shape, nothing that was not asked for, and a document that is true."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from pixrt.errors import OptionError, PictureTooLarge
from pixrt.options.fields import option_fields
from pixrt.options.serve import ServeOptions
from pixrt.options.tasks import TASK_OPTIONS, EditOptions, GenerateOptions
from pixrt.serve.app import make_app
from pixrt.serve.interfaces.effort import MOST_VALUES, NESTED
from pixrt.serve.interfaces.fields import ALIASES
from pixrt.serve.interfaces.wanted import ImageFields, JobFields
from serving import FakeService, client_of


def ask(service: FakeService, method: str, path: str, **given: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with client_of(make_app(service)) as client:
            return await client.request(method, path, **given)

    return asyncio.run(asked())


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = ask(FakeService(), "GET", "/openapi.json").json()
    return found


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/images/edits", 405, "method_not_allowed"),
        ("GET", "/v1/models/", 404, "not_found"),  # no redirection, whose address the client would say
        ("GET", "/docs", 404, "not_found"),  # it would load scripts from elsewhere
        ("GET", "/redoc", 404, "not_found"),
    ],
)
def test_what_is_not_there(method: str, path: str, status: int, code: str) -> None:
    answer = ask(FakeService(), method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/x", "DELETE, GET"),
        ("/sdapi/v1/options", "GET, POST"),
        ("/hf/image-to-image", "POST"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_what_a_path_can_be_asked_with(path: str, methods: str) -> None:
    answer = ask(FakeService(), "PATCH", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-16", "hex", "\xff"])
def test_a_form_in_a_charset_of_its_own(charset: str) -> None:
    kind = f"multipart/form-data; charset={charset}; boundary=b".encode("latin-1")
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n'
    answer = ask(FakeService(), "POST", "/v1/images/generations", content=body, headers={b"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "path",
    ["/v1/images/edits", "/v1/jobs", "/sdapi/v1/txt2img", "/hf/text-to-image", "/v2/models/demo/infer"],
)
@pytest.mark.parametrize("inside", [b"0,", b"[],", b"{},", b"[[" * 2 + b"]]" * 2 + b","])
def test_json_that_would_take_a_minute_to_read(path: str, inside: bytes) -> None:
    values = inside.count(b",") + NESTED * (inside.count(b"[") + inside.count(b"{"))
    body = b"[" + inside * (MOST_VALUES // values + 1) + b"0]"
    answer = ask(FakeService(), "POST", path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (413, "false")
    assert "too many values" in answer.text


def test_the_largest_body() -> None:
    service = FakeService(options=ServeOptions(max_body_mib=1))
    fields = {"headers": {"content-type": "application/json"}}
    assert ask(service, "POST", "/v1/jobs", content=b" " * (1 << 20), **fields).status_code == 400

    async def chunks() -> Any:
        for _ in range(3):
            yield b" " * (1 << 19)

    for content in (b" " * ((1 << 20) + 1), chunks()):
        assert ask(service, "POST", "/v1/jobs", content=content, **fields).status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "code", "words"),
    [
        (RuntimeError("a secret"), 500, "internal_error", "Its log says how"),
        (OptionError("steps is 0", remedy="Use more", option="steps"), 400, "invalid_value", "steps is 0. Use more."),
        (PictureTooLarge("it is large", remedy="Scale it"), 413, "image_too_large", "it is large"),
    ],
)
def test_exceptions(error: Exception, status: int, code: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(FakeService, "submit", fail)
    answer = ask(FakeService(), "POST", "/v1/jobs", json={"task": "generate"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert words in answer.json()["error"]["message"]
    assert "secret" not in answer.text


class TestDocument:
    def test_every_field_is_in_it(self, document: dict[str, Any]) -> None:
        edits, generations, jobs = (
            document["paths"][path]["post"]["requestBody"]["content"]
            for path in ("/v1/images/edits", "/v1/images/generations", "/v1/jobs")
        )
        images = {*option_fields(ImageFields), "lora", *ALIASES}
        job = {*option_fields(JobFields), "lora", *ALIASES, "task"}
        for kind in ("multipart/form-data", "application/json"):
            schemas = [edits[kind]["schema"], generations[kind]["schema"], *jobs[kind]["schema"]["oneOf"]]
            wanted = [
                {*images, *option_fields(EditOptions), "image", "mask"},
                {*images, *option_fields(GenerateOptions)},
                *({*job, *option_fields(task), *task.needs, *task.may_have} for task in TASK_OPTIONS.values()),
            ]
            for schema, names in zip(schemas, wanted, strict=True):
                assert schema["properties"].keys() - {"image[]"} == names
                assert all(each["description"] for each in schema["properties"].values())
                Draft202012Validator.check_schema(schema)

    def test_every_status_is_in_it(self, document: dict[str, Any]) -> None:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                statuses = {int(status) for status in operation["responses"]}
                assert {400, 401, 403, 408, 413, 421, 429, 431, 500, 503} <= statuses, (method, path)
                assert 422 not in statuses
        make = document["paths"]["/v1/images/edits"]["post"]["responses"]
        assert {"404", "408", "413", "415", "499", "504", "507"} <= make.keys()
        assert set(make["200"]["content"]) == {"application/json", "text/event-stream"}
        result = document["paths"]["/v1/jobs/{id}/result"]["get"]["responses"]
        assert {"404", "409", "410"} <= result.keys()
        assert set(result["200"]["content"]) == {"image/png", "image/jpeg", "image/webp"}
        assert "204" in document["paths"]["/v1/jobs/{id}/events"]["get"]["responses"]

    @pytest.mark.parametrize(
        ("path", "method", "given"),
        [
            ("/v1/images/generations", "post", {"json": {"prompt": "x", "n": 2}}),
            ("/v1/images/generations", "post", {"json": {"prompt": "x", "steps": 0}}),
            ("/v1/jobs", "post", {"json": {"task": "generate"}}),
            ("/v1/jobs", "get", {}),
            ("/v1/jobs/t1", "get", {}),
            ("/v1/models", "get", {}),
            ("/v1/models/demo", "get", {}),
            ("/v1/schema", "get", {}),
            ("/v1/parameters", "post", {"files": {"image": b"x"}}),
            ("/v1/parameters", "post", {"json": {}}),
        ],
    )
    def test_answers_are_as_it_says(self, document: dict[str, Any], path: str, method: str, given: Any) -> None:
        found = {"pixrt": "0", "instruction": "x", "steps": 3}
        answer = ask(FakeService(found=found), method.upper(), path, **given)
        template = path.replace("/demo", "/{id}").replace("/t1", "/{id}")
        described = document["paths"][template][method]["responses"][str(answer.status_code)]
        schema = described["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())


def test_the_front_has_no_arrays() -> None:
    """It stays small: pictures are decoded by the worker alone."""
    code = "import json, sys, pixrt.serve.app; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "PIL", "onnxruntime", "tokenizers"} & set(json.loads(run.stdout))
