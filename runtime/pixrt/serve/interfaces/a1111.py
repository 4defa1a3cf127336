"""AUTOMATIC1111's web API, as far as clients such as `webuiapi` use it for pictures.

Must not import numpy or Pillow.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from weakref import WeakSet

from fastapi import APIRouter, Body, Request

from pixrt.options.fields import option
from pixrt.pictures.a1111 import SAMPLERS, SCHEDULES
from pixrt.serve.interfaces import answers
from pixrt.serve.interfaces.a1111_answers import SHORT_HASH, answer_of, progress_of, title_of
from pixrt.serve.interfaces.a1111_fields import THEIRS, Wanted, read_img2img, read_txt2img
from pixrt.serve.interfaces.bodies import BoundedJson
from pixrt.serve.interfaces.dialects import WEB_UI_MAKING, WEB_UI_READING
from pixrt.serve.interfaces.fields import Fields
from pixrt.serve.interfaces.orders import Order, Shop, order_job
from pixrt.serve.interfaces.wanted import MOST_PICTURES
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Ticket

if TYPE_CHECKING:
    from pixrt.serve.service import Service

Said = Annotated[dict[str, Any], Body()]
_CHECKPOINT = "sd_model_checkpoint"
# What there is none of here; clients ask for these lists, some when they start.
_EMPTY: Mapping[str, Any] = {
    "sd-vae": [],
    "upscalers": [],
    "latent-upscale-modes": [],
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
    "script-info": [],
    "extensions": [],
    "cmd-flags": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """Fields of A1111's that are no options of a task."""

    batch_size: int = option(1, "Pictures of a batch.", kind="whole", low=1, high=MOST_PICTURES)
    n_iter: int = option(1, "Batches.", kind="whole", low=1, high=MOST_PICTURES)
    width: int = option(512, "Width in pixels.", kind="whole", low=8, high=8192)
    height: int = option(512, "Height in pixels.", kind="whole", low=8, high=8192)


def router(service: "Service") -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"], responses=WEB_UI_READING, route_class=BoundedJson)
    ours: WeakSet[Ticket] = WeakSet()  # tickets that were asked for here

    def mine(request: Request) -> list[Ticket]:
        """The caller's own that have not ended, oldest first."""
        client = answers.client_of(request)
        found = [each for each in ours if each.client == client and not each.state.is_end]
        return sorted(found, key=lambda each: each.created)

    async def make(request: Request, said: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
        try:
            order = _order(wanted, said, answers.shop_of(service))
            tickets = await answers.submit(service, order, request)
            ours.update(tickets)
            results = await answers.results_of(request, tickets)
        except Problem as problem:
            theirs = THEIRS.get(problem.param or "")
            if theirs:
                problem.param, problem.message = theirs, f"{theirs}: {problem.message}"
            raise
        return answer_of(said, tickets, results, answers.model_of(service))

    @routes.post("/img2img", responses=WEB_UI_MAKING)
    async def img2img(request: Request, said: Said) -> dict[str, Any]:
        """Edit a picture; with a text-to-image model begin with it, or fill its mask."""
        model = answers.model_of(service)
        _check_settings(model, said)
        return await make(request, said, read_img2img(said, model.tasks, model.defaults["scheduler"]))

    @routes.post("/txt2img", responses=WEB_UI_MAKING)
    async def txt2img(request: Request, said: Said) -> dict[str, Any]:
        """Make pictures from text."""
        model = answers.model_of(service)
        _check_settings(model, said)
        return await make(request, said, read_txt2img(said, model.defaults["scheduler"]))

    @routes.get("/progress")
    async def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
        """How far the caller's own pictures are."""
        return progress_of(mine(request))

    @routes.post("/interrupt")
    async def interrupt(request: Request) -> dict[str, Any]:
        """End the caller's own pictures."""
        for ticket in mine(request):
            ticket.cancel()
        return {}

    @routes.get("/options")
    async def options() -> dict[str, Any]:
        """The settings that there are: which model it is."""
        model = answers.model_of(service)
        return {_CHECKPOINT: title_of(model), "sd_checkpoint_hash": model.sha256, "samples_format": "png"}

    @routes.post("/options")
    async def set_options(said: Said) -> None:
        """Takes the model that is there already."""
        _check_settings(answers.model_of(service), {"override_settings": said})

    @routes.get("/sd-models")
    async def sd_models() -> list[dict[str, Any]]:
        """The one model."""
        model = answers.model_of(service)
        name, title = model.name, title_of(model)
        hashes = {"hash": model.sha256[:SHORT_HASH], "sha256": model.sha256}
        return [{"title": title, "model_name": name, "filename": name, "config": None, **hashes}]

    @routes.get("/samplers")
    async def samplers() -> list[dict[str, Any]]:
        """Solvers by A1111's names; pixrt's own are taken too."""
        return [
            {"name": name, "aliases": sorted(set(schedules.values())), "options": {}}
            for name, schedules in SAMPLERS.items()
        ]

    @routes.get("/schedulers")
    async def schedulers() -> list[dict[str, Any]]:
        """Schedules of the noise."""
        return [{"name": name, "label": name.capitalize(), "aliases": None} for name in SCHEDULES]

    @routes.get("/loras")
    async def loras() -> list[dict[str, Any]]:
        """LoRAs that a prompt may name: `<lora:name:0.8>`."""
        return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in service.loras]

    for name, nothing in _EMPTY.items():
        routes.add_api_route(f"/{name}", _always(nothing), methods=["GET"], name=name, description="None here.")

    @routes.post("/refresh-checkpoints")
    @routes.post("/refresh-loras")
    async def refresh() -> None:
        """Nothing to do: the model and the LoRA folder are what they were at start."""

    return routes


def _always(answer: Any) -> Callable[[], Awaitable[Any]]:
    async def give() -> Any:
        return answer

    return give


def _check_settings(model: Model, said: Mapping[str, Any]) -> None:
    """Raise Problem unless the settings that a request overrides are as they are."""
    settings = said.get("override_settings") or {}
    if not isinstance(settings, dict):
        raise Problem(400, "invalid_value", "override_settings is no object. Leave it out.", "override_settings")
    for name, value in settings.items():
        if name != _CHECKPOINT:
            raise Problem(
                400, "unsupported_parameter", f"The setting {name!r:.60} cannot be changed here. Leave it out.", name
            )
        if value not in (model.name, title_of(model), model.sha256, model.sha256[:SHORT_HASH]):
            message = f"There is no model {value!r:.80} here. Use {title_of(model)}."
            raise Problem(404, "model_not_found", message, name)


def _order(wanted: Wanted, said: Mapping[str, Any], shop: Shop) -> Order:
    """The pictures of a request. Raises Problem."""
    numbers = _Numbers(**Fields(said.items(), is_json=True).parsed(_Numbers))
    count = numbers.batch_size * numbers.n_iter
    if count > MOST_PICTURES:
        message = f"batch_size x n_iter is {count}. Ask for at most {MOST_PICTURES} pictures at once."
        raise Problem(400, "invalid_value", message, "n_iter")
    fields = {"task": wanted.task, "prompt": wanted.text, "n": count, "image": wanted.image, "mask": wanted.mask}
    loras = [("lora", lora) for lora in wanted.loras]
    order = order_job(Fields([*fields.items(), *loras, *wanted.values.items()], is_json=True), shop)
    size = (numbers.width, numbers.height) if wanted.has_size else None
    asked = (dataclasses.replace(each, size=size) for each in order.asked)
    return dataclasses.replace(order, asked=tuple(asked))
