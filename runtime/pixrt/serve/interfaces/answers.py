"""From an order to its answer: submitted, waited for while the client is there, described.

Must not import numpy or Pillow.
"""

import asyncio
import base64
from collections.abc import Sequence

from fastapi import Request, Response
from pydantic import BaseModel

from pixrt.serve.interfaces.orders import Order, Shop
from pixrt.serve.interfaces.shapes import Image, Made
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.service import Service
from pixrt.serve.sizes import spell_size
from pixrt.serve.tickets import Prediction, Result, Ticket


def client_of(request: Request) -> str:
    """Who asks, as the guard found it out; tickets belong to it."""
    return str(getattr(request.state, "client", "addr:unknown"))


def model_of(service: Service) -> Model:
    """The model that is served. Raises Problem while it has not been loaded."""
    if service.model is None:
        raise Problem(503, "not_ready", "The model is being loaded. Try again soon.", retry_after=service.retry_after)
    return service.model


def shop_of(service: Service) -> Shop:
    """What orders are checked against. Raises Problem while there is no model."""
    return Shop(model_of(service), service.loras, service.options.max_prompt)


async def submit(service: Service, order: Order, request: Request, *, keep: bool = False) -> list[Ticket]:
    """Its tickets; with `keep` they can be found after their end.

    Raises Problem if the service does not take it, with parameters called as the client does.
    """
    try:
        tickets = await service.submit(order.asked, client=client_of(request), keep=keep)
    except Problem as problem:
        order.told(problem)
        raise
    notes = getattr(request.state, "notes", {})
    notes |= {"ticket": tickets[0].id, "pictures": len(tickets)}
    return tickets


async def results_of(request: Request, tickets: Sequence[Ticket]) -> list[Result]:
    """Their results, in order. Raises the first Problem. Then, and if the client goes away, the rest is cancelled."""
    gone = asyncio.ensure_future(_gone(request))
    results = asyncio.ensure_future(_all(tickets))
    try:
        await asyncio.wait((gone, results), return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            raise Problem(499, "cancelled", "The client went away.")
        found = results.result()
        getattr(request.state, "notes", {})["sizes"] = " ".join(spell_size(result.size) for result in found)
        return found
    finally:
        cancel(tickets)
        gone.cancel()
        results.cancel()


def cancel(tickets: Sequence[Ticket]) -> None:
    """Ask for the end of those that have not ended."""
    for ticket in tickets:
        ticket.cancel()


async def _all(tickets: Sequence[Ticket]) -> list[Result]:
    return await asyncio.gather(*(ticket.wait() for ticket in tickets))


async def _gone(request: Request) -> None:
    """Return once the client has gone away. Its body has been read: nothing else is received."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def made(ticket: Ticket, result: Result) -> Made:
    """How a picture was made."""
    parameters = dict(result.parameters)
    return Made(
        seed=seed_of(ticket),
        size=spell_size(result.size),
        model=str(parameters.get("model", "")),
        model_sha256=str(parameters.get("model_sha256", "")),
        backend=result.backend,
        parameters=parameters,
        times=dict(result.times),
        notes=list(result.notes),
    )


def image(ticket: Ticket, result: Result, predicted: Prediction) -> Image:
    """A picture, how it was made, and what was predicted as it was accepted."""
    return Image(
        b64_json=encoded(result.data),
        predicted_start=predicted.start,
        predicted_end=predicted.end,
        **dict(made(ticket, result)),
    )


def encoded(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def seed_of(ticket: Ticket) -> int:
    """The seed of a ticket: orders draw one where none is given."""
    seed = ticket.asked.options.seed
    assert seed is not None
    return seed


def respond(body: BaseModel, status: int = 200) -> Response:
    """An answer of JSON."""
    return Response(body.model_dump_json(), status, media_type="application/json")
