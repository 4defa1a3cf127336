"""What the OpenAPI document says of requests and of errors, derived from the fields themselves.

Must not import numpy or Pillow.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pixrt.options.fields import Field, option_fields, rule_of
from pixrt.options.schema import json_schema
from pixrt.options.tasks import TASK_OPTIONS, EditOptions, GenerateOptions, Options
from pixrt.serve.interfaces.bodies import FORM, JSON
from pixrt.serve.interfaces.fields import ALIASES
from pixrt.serve.interfaces.shapes import ErrorAnswer
from pixrt.serve.interfaces.wanted import FORMATS, ImageFields, JobFields, RequestFields
from pixrt.serve.tickets import MEDIA_TYPES

Document = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_LORA = "A LoRA of the server's folder as NAME or NAME:SCALE; may be repeated."
_PICTURES: Mapping[str, str] = {
    "image": "The picture: PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF; HEIC if the server can.",
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
PARAMETERS_READING = {status: each for status, each in MAKING.items() if status not in (404, 499, 504)}
JOB_READING = READING | _errors({404: "There is no such job of the caller's, or it has expired."})
RESULT = JOB_MAKING | JOB_READING | _errors(_OF_RESULTS)
RESULT[200] = {
    "description": "The picture.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in [MEDIA_TYPES[name] for name in FORMATS]
    },
}


def stream_of(words: str, *events: str) -> Document:
    """An answer of server-sent events."""
    described = {
        "type": "object",
        "properties": {
            "event": {"type": "string", "enum": list(events)},
            "data": {"type": "string", "description": "A JSON object."},
            "id": {"type": "string"},
        },
        "required": ["event", "data"],
    }
    return {"description": words, "content": {"text/event-stream": {"schema": described}}}


def _pictures(kind: str) -> Document:
    """The answer with pictures: JSON, or events."""
    events = f"{kind}.partial_image", f"{kind}.completed", "error"
    return stream_of("The pictures; with `stream` as server-sent events.", *events)


def _body(fields: type[RequestFields], *kinds: type[Options], required: Collection[str]) -> Document:
    """A request's body, as a form and as JSON; of several tasks, `task` says which."""
    content = {}
    for media_type in (FORM, JSON):
        objects = [_object(fields, kind, required, media_type == JSON) for kind in kinds]
        if "task" in required:
            for kind, each in zip(kinds, objects, strict=True):
                each["properties"]["task"] = {"type": "string", "const": kind.task, "description": "What to do."}
                each["required"] = sorted({*each["required"], *kind.needs})
        content[media_type] = {"schema": objects[0] if len(objects) == 1 else {"oneOf": objects}}
    return {"required": True, "content": content}


def _object(fields: type[RequestFields], kind: type[Options], required: Collection[str], is_json: bool) -> Document:
    properties: Document = {}
    for options in (fields, kind):
        described = json_schema(options, "", {})["properties"]
        for name, each in option_fields(options).items():
            properties[name] = _property(each, described[name], is_json)
    encoding = {"contentEncoding": "base64"} if is_json else {"format": "binary"}
    for name in sorted(kind.needs | kind.may_have):
        properties[name] = {"type": "string", "description": _PICTURES[name], **encoding}
    properties["lora"] = {"type": "array", "items": {"type": "string"}, "description": _LORA}
    for alias, name in ALIASES.items():
        properties[alias] = {**properties[name], "description": f"The same as `{name}`."}
    found: Document = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    if not is_json and "image" in required:  # as the openai SDK sends a list of pictures, of which one is taken
        properties["image[]"] = {**properties["image"], "description": "The same as `image`."}
        found["required"].remove("image")
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


EDIT_BODY = _body(ImageFields, EditOptions, required=["image", "prompt"])
GENERATION_BODY = _body(ImageFields, GenerateOptions, required=["prompt"])
PARAMETERS_BODY: Document = {
    "required": True,
    "content": {
        media_type: {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "description": _PICTURES["image"], **encoding}},
                "required": ["image"],
                "additionalProperties": False,
            }
        }
        for media_type, encoding in ((FORM, {"format": "binary"}), (JSON, {"contentEncoding": "base64"}))
    },
}
JOB_BODY = _body(JobFields, *TASK_OPTIONS.values(), required=["task"])
EDITED, GENERATED = MAKING | {200: _pictures("image_edit")}, MAKING | {200: _pictures("image_generation")}
FOLLOWED = JOB_READING | {
    200: stream_of("What happens to the job.", "queued", "step", "preview", "done", "failed", "cancelled"),
    204: {"description": "The job has ended, and the client has every event."},
}
