"""What the OpenAPI document says of the protocols whose errors have another shape than OpenAI's.

The shapes themselves: `pixrt.serve.interfaces.protocols`. Must not import numpy or Pillow.
"""

from typing import Any

from pydantic import BaseModel

from pixrt.serve.interfaces.describing import MAKING, READING, Responses


class Sentence(BaseModel):
    """An error of KServe's and of Hugging Face's protocol."""

    error: str


class WebUiError(BaseModel):
    """An error of AUTOMATIC1111's API: `error` is one word for programs."""

    error: str
    detail: str
    body: str
    errors: str


def _shaped(responses: Responses, shape: type[BaseModel]) -> Responses:
    return {status: {**each, "model": shape} for status, each in responses.items()}


SENTENCES_MAKING, SENTENCES_READING = _shaped(MAKING, Sentence), _shaped(READING, Sentence)
WEB_UI_MAKING, WEB_UI_READING = _shaped(MAKING, WebUiError), _shaped(READING, WebUiError)


def json_body(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """A request's body: an object of which the document names no more than this."""
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
