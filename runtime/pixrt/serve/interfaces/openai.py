"""OpenAI's images API: pictures made of one, pictures from text, and which model there is."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, cast

from fastapi import APIRouter, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from pixrt.serve.interfaces import answers
from pixrt.serve.interfaces.bodies import read_fields
from pixrt.serve.interfaces.describing import EDIT_BODY, EDITED, GENERATED, GENERATION_BODY, READING
from pixrt.serve.interfaces.fields import Fields
from pixrt.serve.interfaces.orders import Order, Shop, order_edit, order_generation
from pixrt.serve.interfaces.shapes import (
    CompletedImage,
    CompletedType,
    Echo,
    Image,
    Images,
    ModelInfo,
    ModelList,
    PartialImage,
    PartialType,
    Quality,
)
from pixrt.serve.interfaces.wanted import ImageFields
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.service import Service
from pixrt.serve.tickets import Event, Prediction, Ticket

Kind = Literal["image_edit", "image_generation"]
_PARTIAL: Mapping[Kind, PartialType] = {
    "image_edit": "image_edit.partial_image",
    "image_generation": "image_generation.partial_image",
}
_COMPLETED: Mapping[Kind, CompletedType] = {
    "image_edit": "image_edit.completed",
    "image_generation": "image_generation.completed",
}


def router(service: Service) -> APIRouter:
    """The routes under `/v1/images` and `/v1/models`."""
    routes = APIRouter(tags=["OpenAI"])

    @routes.post(
        "/v1/images/edits",
        response_model=Images,
        responses=EDITED,
        openapi_extra={"requestBody": EDIT_BODY},
    )
    async def edit(request: Request) -> Response:
        """Edit a picture as instructed, all of it or what a mask allows."""
        return await _answer(service, request, order_edit, "image_edit")

    @routes.post(
        "/v1/images/generations",
        response_model=Images,
        responses=GENERATED,
        openapi_extra={"requestBody": GENERATION_BODY},
    )
    async def generate(request: Request) -> Response:
        """Make a picture from text."""
        return await _answer(service, request, order_generation, "image_generation")

    @routes.get("/v1/models", response_model=ModelList, responses=READING)
    async def models() -> Response:
        """The models of the server: one."""
        return answers.respond(ModelList(data=[describe_model(answers.model_of(service))]))

    @routes.get("/v1/models/{id}", response_model=ModelInfo, responses=READING)
    async def model(id: str) -> Response:
        """The model of this name."""
        found = answers.model_of(service)
        if id != found.name:
            raise Problem(404, "model_not_found", f"There is no model {id!r:.60} here. Use {found.name}.", "model")
        return answers.respond(describe_model(found))

    return routes


def describe_model(model: Model) -> ModelInfo:
    """The model as clients see it."""
    return ModelInfo(
        id=model.name,
        created=model.created,
        sha256=model.sha256,
        precision=model.precision,
        backend=model.backend,
        notice=model.notice,
        native_resolution=model.native_resolution,
        size_multiple=model.size_multiple,
        tasks=list(model.tasks),
        defaults=dict(model.defaults),
        examples=list(model.examples),
    )


async def _answer(
    service: Service, request: Request, make_order: Callable[[Fields, Shop], Order], kind: Kind
) -> Response:
    order = make_order(await read_fields(request, service.options), answers.shop_of(service))
    tickets = await answers.submit(service, order, request)
    fields, predicted = cast(ImageFields, order.fields), [ticket.prediction for ticket in tickets]
    if fields.stream:
        return _stream(fields, tickets, predicted, kind)
    results = await answers.results_of(request, tickets)
    images = [answers.image(*each) for each in zip(tickets, results, predicted, strict=True)]
    return answers.respond(
        Images(
            created=int(time.time()),
            data=images,
            model=images[0].model,
            model_sha256=images[0].model_sha256,
            notice=answers.model_of(service).notice,
            seed=images[0].seed,
            seeds=[image.seed for image in images],
            **_echo(fields, tickets[0], images[0].size),
        )
    )


def _stream(fields: ImageFields, tickets: Sequence[Ticket], predicted: Sequence[Prediction], kind: Kind) -> Response:
    async def on_close(_: Any) -> None:
        answers.cancel(tickets)  # also where the client has gone before the first event is asked for

    return EventSourceResponse(_events(fields, tickets, predicted, kind), client_close_handler_callable=on_close)


async def _events(
    fields: ImageFields, tickets: Sequence[Ticket], predicted: Sequence[Prediction], kind: Kind
) -> AsyncIterator[ServerSentEvent]:
    """The pictures one after the other, each after the pictures of its way; they are made together."""
    try:
        for index, ticket in enumerate(tickets):
            count = 0
            async for event in ticket.follow():
                if event.picture is not None:
                    yield _event(_partial(fields, ticket, event, kind, index, count))
                    count += 1
            image = answers.image(ticket, await ticket.wait(), predicted[index])
            yield _event(_completed(fields, ticket, image, kind, index))
    except Problem as problem:
        yield ServerSentEvent(json.dumps(problem.body), event="error")
    finally:
        answers.cancel(tickets)


def _event(body: PartialImage | CompletedImage) -> ServerSentEvent:
    return ServerSentEvent(body.model_dump_json(), event=body.type)


def _partial(fields: ImageFields, ticket: Ticket, event: Event, kind: Kind, index: int, count: int) -> PartialImage:
    return PartialImage(
        type=_PARTIAL[kind],
        b64_json=answers.encoded(event.picture or b""),
        created_at=int(time.time()),
        partial_image_index=count,
        picture_index=index,
        step=event.data["step"],
        of=event.data["of"],
        **{**_echo(fields, ticket, fields.size), "output_format": "png"},
    )


def _completed(fields: ImageFields, ticket: Ticket, image: Image, kind: Kind, index: int) -> CompletedImage:
    return CompletedImage(
        type=_COMPLETED[kind],
        created_at=int(time.time()),
        picture_index=index,
        **{**dict(image), **_echo(fields, ticket, image.size)},
    )


def _echo(fields: ImageFields, ticket: Ticket, size: str) -> dict[str, Any]:
    """What every answer repeats of the request."""
    asked = ticket.asked
    quality: Quality = fields.quality if fields.quality in ("low", "high") else "medium"
    never_transparent = asked.output.format == "jpeg" or "image" not in asked.options.needs
    echo = Echo(
        output_format=asked.output.format,
        quality=quality,
        background="opaque" if never_transparent else "auto",
        size=size,
        user=fields.user,
        safety_identifier=fields.safety_identifier or fields.user,
    )
    return dict(echo)
