"""What the OpenAPI document says of requests and of errors, derived from the fields themselves.

Must not import numpy or Pillow.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pixrt.options.fields import Field, option_fields, rule_of
from pixrt.options.schema import json_schema
from pixrt.options.tasks import TASK_OPTIONS, EditOptions, GenerateOptions, Options
from pixrt.serve.bodies import FORM, JSON
from pixrt.serve.fields import ALIASES
from pixrt.serve.shapes import ErrorAnswer
from pixrt.serve.tickets import MEDIA_TYPES
from pixrt.serve.wanted import FORMATS, ImageFields, JobFields, RequestFields

Document = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_LORA = "A LoRA of the server's folder as NAME or NAME:SCALE; may be repeated."
_PICTURES: Mapping[str, str] = {
    "image": "The picture: PNG, JPEG, WebP or AVIF.",
    "mask": "What may change, as large as the picture: transparent (alpha 0), or white if nothing is transparent.",
    "style": "The picture whose style is taken.",
}
_ERRORS: Mapping[int, str] = {
    400: "A field is wrong: `param` names it.",
    401: "The server wants an API key.",
    403: "Another site's page may not call this server.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    413: "The body or a picture is too large.",
    415: "A picture, or the body, is of no kind that is read.",
    421: "The server is not called by this name.",
    429: "The queue is full, or a key's rate is used up; `Retry-After` says when to try again.",
    431: "The request's head is too large.",
    499: "The request was cancelled; nobody is there to read this.",
    500: "The server failed.",
    503: "The server is starting, ending, or its worker was restarted; `Retry-After` says when to try again.",
    504: "The deadline cannot be met, or has passed in the queue.",
    507: "The device has no memory for it.",
}
_OF_RESULTS: Mapping[int, str] = {
    409: "The job is not done; `Retry-After` says when it is expected to be.",
    410: "The job was cancelled.",
}
_RETRY = {
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}}
}


def _errors(words: Mapping[int, str]) -> Responses:
    """Answers that are errors, by status."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": said,
            **({"headers": _RETRY} if status in (408, 409, 429, 503) else {}),
        }
        for status, said in words.items()
    }


MAKING = _errors(_ERRORS)
# Whatever the path is: the guard may answer before the application does.
READING = _errors({status: _ERRORS[status] for status in (400, 401, 403, 404, 408, 413, 421, 429, 431, 500, 503)})
JOB_MAKING = {status: each for status, each in MAKING.items() if status != 499}
JOB_READING = READING | _errors({404: "There is no such job of the caller's, or it has expired."})
RESULT = JOB_MAKING | JOB_READING | _errors(_OF_RESULTS)
RESULT[200] = {
    "description": "The picture.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in [MEDIA_TYPES[name] for name in FORMATS]
    },
}


def stream_of(kind: str) -> Document:
    """The answer with pictures: JSON, or events."""
    words = f"`{kind}.partial_image`, `{kind}.completed`, `error`"
    return {
        "description": f"The pictures; with `stream` as server-sent events {words}.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }


def body(fields: type[RequestFields], kinds: Collection[type[Options]], *, required: Collection[str]) -> Document:
    """A request's body, as a form and as JSON."""
    form, plain = (_object(fields, kinds, required, is_json) for is_json in (False, True))
    return {"required": True, "content": {FORM: {"schema": form}, JSON: {"schema": plain}}}


def _object(
    fields: type[RequestFields], kinds: Collection[type[Options]], required: Collection[str], is_json: bool
) -> Document:
    properties: Document = {}
    for kind in (fields, *kinds):
        described = json_schema(kind, "", {})["properties"]
        for name, each in option_fields(kind).items():
            properties.setdefault(name, _property(each, described[name], is_json))
    for name in sorted({name for kind in kinds for name in kind.needs | kind.may_have}):
        encoding = {"contentEncoding": "base64"} if is_json else {"format": "binary"}
        properties[name] = {"type": "string", "description": _PICTURES[name], **encoding}
        if not is_json and name == "image":
            properties["image[]"] = {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "maxItems": 1,
                "description": "The same as `image`.",
            }
    lora = {"type": "array", "items": {"type": "string"}, "description": _LORA}
    properties["lora"] = lora
    for alias, name in ALIASES.items():
        if name in properties:
            properties[alias] = {**properties[name], "description": f"The same as `{name}`."}
    if "task" in required:
        tasks = [kind.task for kind in kinds]
        properties["task"] = {"type": "string", "enum": tasks, "description": "What to do."}
    found = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    if "image[]" in properties and "image" in required:
        found["required"] = [name for name in required if name != "image"]
        found["anyOf"] = [{"required": ["image"]}, {"required": ["image[]"]}]
    return found


def _property(field: Field, described: Document, is_json: bool) -> Document:
    """What a field may hold: in JSON null says nothing, in a form everything is a text."""
    found = {name: value for name, value in described.items() if name not in ("x-group", "title")}
    kinds = found["type"] if isinstance(found["type"], list) else [found["type"]]
    plain = [kind for kind in kinds if kind != "null"]
    if found["default"] is None:
        del found["default"]
    if not is_json:
        found["type"] = plain[0]
        if "enum" in found:
            found["enum"] = [value for value in found["enum"] if value is not None]
        if rule_of(field).kind == "window":
            found = {"type": "string", "description": f"{found['description']} As two numbers with a space between."}
        return found
    if "enum" in found:
        found["enum"] = [*(value for value in found["enum"] if value is not None), None]
    return found | {"type": [*plain, "null"]}


EDIT_BODY = body(ImageFields, [EditOptions], required=["image", "prompt"])
GENERATION_BODY = body(ImageFields, [GenerateOptions], required=["prompt"])
JOB_BODY = body(JobFields, list(TASK_OPTIONS.values()), required=["task"])
