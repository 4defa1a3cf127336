"""A request's body as `Fields`: a form, or a JSON object. Starlette and python-multipart read forms."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile

from pixrt.options.serve import ServeOptions
from pixrt.serve.interfaces.effort import check_json
from pixrt.serve.interfaces.fields import Fields, Upload
from pixrt.serve.problems import Problem

FORM, JSON = "multipart/form-data", "application/json"
_MOST_FILES = 16  # more than any request takes: that one is too many is told by name


async def read_fields(request: Request, options: ServeOptions) -> Fields:
    """The fields of a request. Raises Problem for what is neither a form nor a JSON object."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return await _read_form(request, options)
    if kind == JSON:
        return _read_json(await request.body())
    message = f"The body is {kind[:60] or 'of no type'}. Send {FORM} or {JSON}, and say so in Content-Type."
    raise Problem(415, "unsupported_media_type", message)


async def _read_form(request: Request, options: ServeOptions) -> Fields:
    items: list[tuple[str, str | Upload]] = []
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8").lower()
    if charset not in (b"utf-8", b"utf8", b"us-ascii"):  # Python has some that no text is in
        raise Problem(415, "unsupported_media_type", "The form's charset is not UTF-8. Send UTF-8, and leave it out.")
    most = 4 * options.max_prompt + 1024  # bytes of a text field: a character has four at most
    async with request.form(max_files=_MOST_FILES, max_fields=options.max_parts, max_part_size=most) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                items.append((name, value))
            elif value.filename or value.size:  # a browser sends a file that was not chosen, without a name
                items.append((name, Upload(await value.read())))
    return Fields(items)


class BoundedJson(APIRoute):
    """A route whose body FastAPI itself reads."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def check_first(request: Request) -> Response:
            check_json(await request.body())
            return await handle(request)

        return check_first


def _read_json(body: bytes) -> Fields:
    check_json(body)
    try:
        value = json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(400, "invalid_json", f"The body is not JSON{reason}. Send a JSON object.") from None
    if not isinstance(value, dict):
        raise Problem(400, "invalid_json", f"The body is {type(value).__name__}. Send a JSON object.")
    return Fields(value.items(), is_json=True)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if no name stands twice in it."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Problem(400, "unknown_parameter", f"{name!r:.60} is given twice. Give it once.", _shown(name))
        found[name] = value
    return found


def _shown(name: str) -> str:
    return name.encode(errors="replace").decode()[:60]


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are no JSON
