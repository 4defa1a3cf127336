"""Hugging Face's inference API as `huggingface_hub.InferenceClient` speaks it to a URL: image-to-image, text-to-image.

Must not import numpy or Pillow.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from pixrt.serve.interfaces import answers
from pixrt.serve.interfaces.dialects import SENTENCES_MAKING, json_body
from pixrt.serve.interfaces.effort import check_json
from pixrt.serve.interfaces.fields import Fields
from pixrt.serve.interfaces.orders import Order, order_edit, order_generation
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import MEDIA_TYPES, Output, OutputFormat

if TYPE_CHECKING:
    from pixrt.serve.service import Service

# Of OpenAI's fields that orders know, those that have no meaning where the answer is one picture's bytes.
_NOT_HERE = ("n", "stream", "partial_images", "response_format", "quality", "background", "moderation", "size")
_FILES: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
_FILE = {"schema": {"type": "string", "format": "binary"}}
_MADE: dict[int | str, dict[str, Any]] = {
    **SENTENCES_MAKING,
    200: {"description": "The picture.", "content": {MEDIA_TYPES[name]: _FILE for name in _FILES}},
}
_PARAMETERS = {"type": ["object", "null"], "description": "The options, and those of Hugging Face's task."}
_TEXT = json_body("inputs", inputs={"type": "string", "description": "The prompt."}, parameters=_PARAMETERS)
_PICTURE = json_body(
    "inputs",
    inputs={"type": "string", "contentEncoding": "base64", "description": "The picture."},
    parameters=_PARAMETERS,
)


def router(service: "Service") -> APIRouter:
    """The routes under `/hf`: a URL for each task, since the client sends the same words for both."""
    routes = APIRouter(prefix="/hf", tags=["Hugging Face"], default_response_class=Response, responses=_MADE)

    @routes.post("/image-to-image", openapi_extra={"requestBody": _PICTURE})
    async def image_to_image(request: Request) -> Response:
        """Edit a picture. `inputs` is the picture, base64; `parameters.prompt` is the instruction."""
        order = order_edit(_read(await request.body(), "image"), answers.shop_of(service))
        return await _answer(service, request, order)

    @routes.post("/text-to-image", openapi_extra={"requestBody": _TEXT})
    async def text_to_image(request: Request) -> Response:
        """Make a picture from text, which is `inputs`."""
        order = order_generation(_read(await request.body(), "prompt"), answers.shop_of(service))
        return await _answer(service, request, order)

    return routes


def _read(body: bytes, inputs: str) -> Fields:
    """The request's fields in one: `parameters`, and `inputs` under the name of what they are. Raises Problem 400."""
    check_json(body)
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        # The client sends a picture as the whole body where there is no parameter, so no instruction either.
        raise Problem(400, "invalid_json", "The body is not JSON. Send a prompt among the parameters.") from None
    request = request if isinstance(request, dict) else {"parameters": False}
    parameters = {} if request.get("parameters") is None else request["parameters"]
    if not isinstance(parameters, dict):
        raise Problem(400, "invalid_json", 'The body is no object. Send {"inputs": ..., "parameters": {...}}.')
    for name in request.keys() - {"inputs", "parameters"}:
        raise Problem(400, "unknown_parameter", f"There is no {name!r:.60} beside inputs. Give it in parameters.", name)
    for name in (inputs, *_NOT_HERE):
        if name in parameters:
            raise Problem(400, "unknown_parameter", f"There is no parameter {name!r} here. Leave it out.", name)
    said = {**parameters, inputs: request.get("inputs")}
    size = said.pop("target_size", None)
    if size is not None:
        if not isinstance(size, dict) or size.keys() != {"width", "height"}:
            message = 'target_size is no size. Send {"width": ..., "height": ...}.'
            raise Problem(400, "invalid_value", message, "target_size")
        said["size"] = f"{size['width']}x{size['height']}"
    return Fields(said.items(), is_json=True)


async def _answer(service: "Service", request: Request, order: Order) -> Response:
    if "output_format" not in order.given:
        accept = request.headers.get("accept", "")
        wanted: OutputFormat = next((name for name in _FILES if MEDIA_TYPES[name] in accept), "png")
        asked = (dataclasses.replace(each, output=Output(wanted, each.output.quality)) for each in order.asked)
        order = dataclasses.replace(order, asked=tuple(asked))
    tickets = await answers.submit(service, order, request)
    (result,) = await answers.results_of(request, tickets)
    headers = {"x-seed": str(answers.seed_of(tickets[0]))}
    return Response(result.data, media_type=result.media_type, headers=headers)
