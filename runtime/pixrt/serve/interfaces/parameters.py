"""What a picture says of how it was made, as a job that repeats it. Must not import numpy or Pillow."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from pixrt.errors import PixrtError
from pixrt.options.fields import option_fields
from pixrt.options.stored import options_from, unknown_parameters
from pixrt.options.tasks import TASK_OPTIONS, EditOptions
from pixrt.serve.interfaces import answers
from pixrt.serve.interfaces.bodies import read_fields
from pixrt.serve.interfaces.describing import PARAMETERS_BODY, PARAMETERS_READING
from pixrt.serve.interfaces.fields import is_unicode
from pixrt.serve.interfaces.shapes import StoredLora, StoredParameters
from pixrt.serve.problems import Problem
from pixrt.serve.service import Service

PATH = "/v1/parameters"
_MOST_NAMES, _LONGEST_NAME, _MOST_SCALE = 100, 100, 1e6
_NEAREST = ("edit", "img2img", "generate", "inpaint", "style")  # what is taken for a task that the model cannot do


def router(service: Service) -> APIRouter:
    """`POST /v1/parameters`."""
    routes = APIRouter(tags=["Jobs"])

    @routes.post(
        PATH,
        response_model=StoredParameters,
        responses=PARAMETERS_READING,
        openapi_extra={"requestBody": PARAMETERS_BODY},
    )
    async def parameters(request: Request) -> Response:
        """How a picture was made that pixrt or AUTOMATIC1111 wrote: what repeats it."""
        given = await read_fields(request, service.options)
        given.refuse_others(["image"])
        picture = given.picture("image")
        if picture is None:
            raise Problem(400, "missing_required_parameter", "There is no image. Give it.", "image")
        model = answers.model_of(service)
        return answers.respond(job_of(await service.read(picture), model.tasks, service.loras))

    return routes


def job_of(parameters: Mapping[str, Any], tasks: Sequence[str], loras: Sequence[str]) -> StoredParameters:
    """A job for a model that can do `tasks`, with `loras` at hand. Raises Problem for what no version writes."""
    made_by = str(parameters.get("task", EditOptions.task))
    if made_by not in TASK_OPTIONS:
        raise _unusable(f"The picture was made by {made_by!r:.40}, a task that this version does not know.")
    task = made_by if made_by in tasks else next((each for each in _NEAREST if each in tasks), tasks[0])
    kind = TASK_OPTIONS[task]
    try:
        prompt, options = options_from({**parameters, "task": task}, "the picture", kind)
    except PixrtError as error:
        raise _unusable(str(error)) from error
    if not (is_unicode(prompt) and is_unicode(options.negative_prompt)):
        raise _unusable("The picture's text is no Unicode.")
    said = {name: getattr(options, name) for name in option_fields(kind) if parameters.get(name) is not None}
    of_other_tasks = {name for name in option_fields(TASK_OPTIONS[made_by]) if name not in option_fields(kind)}
    lost = {name for name in of_other_tasks if parameters.get(name) is not None}
    used, missing = _loras(parameters.get("loras"), loras)
    sha256 = parameters.get("model_sha256")
    return StoredParameters(
        source="pixrt" if "pixrt" in parameters else "a1111",
        task=task,
        made_by=made_by,
        prompt=prompt,
        options=said,
        loras=used,
        missing_loras=_written(missing),
        pictures=[name for name in ("mask", "style") if f"{name}_sha256" in parameters],
        unknown=_written(sorted({*unknown_parameters(parameters), *lost})),
        model=_written([str(parameters.get("model", ""))])[0],
        model_sha256=_written([sha256])[0] if isinstance(sha256, str) else None,
    )


def _loras(said: object, known: Sequence[str]) -> tuple[list[StoredLora], list[str]]:
    """Those that the server has, and the names of others. Anyone may have written them."""
    used, missing = list[StoredLora](), list[str]()
    for each in said if isinstance(said, list) else ():
        name, scale = (each.get("name"), each.get("scale", 1)) if isinstance(each, Mapping) else (None, None)
        if not isinstance(name, str):
            continue
        name = name.removesuffix(".safetensors")
        if name in known and isinstance(scale, int | float) and abs(scale) <= _MOST_SCALE:
            used.append(StoredLora(name=name, scale=scale))
        else:
            missing.append(name)
    return used, missing


def _written(names: Sequence[str]) -> list[str]:
    """Names that anyone may have written, as they can be sent: JSON may hold half of a character."""
    return [name[:_LONGEST_NAME].encode(errors="backslashreplace").decode() for name in names[:_MOST_NAMES]]


def _unusable(message: str) -> Problem:
    return Problem(400, "invalid_parameters", message, "image")
