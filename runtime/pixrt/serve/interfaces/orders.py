"""What a request for pictures asks for, by interface: its fields and its task's options become `Asked` objects.

Knows no HTTP. Must not import numpy or Pillow.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields
from pixrt.options.tasks import TASK_OPTIONS, Options, PictureOptions, seeds_from
from pixrt.serve.interfaces.fields import Fields
from pixrt.serve.interfaces.wanted import MOST_PICTURES as MOST_PICTURES
from pixrt.serve.interfaces.wanted import QUALITIES, ImageFields, JobFields, RequestFields
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.sizes import check_new, check_result, read_size
from pixrt.serve.tickets import Asked


@dataclass(frozen=True, slots=True)
class Order:
    """What one request asks for: its pictures, and how it wants its answer. `given` are its fields as they came."""

    asked: tuple[Asked, ...]
    fields: RequestFields
    given: Fields

    def told(self, problem: Problem) -> Problem:
        """A problem of the order, its parameter called as the client does."""
        for name, sources in (("size", ("width", "height")), ("quality", ("preset",))):
            param = problem.param or ""
            if param in sources and param not in self.given and name in self.given:
                problem.param = name
        return self.given.told(problem)


@dataclass(frozen=True, slots=True)
class Shop:
    """What orders are checked against: the model, the names of LoRAs, and how long a text may be."""

    model: Model
    loras: Sequence[str]
    max_prompt: int


def order_edit(given: Fields, shop: Shop) -> Order:
    """Pictures made of one: an edit, or with a text-to-image model what it has for it. Raises Problem."""
    task = _edit_task(shop.model, "mask" in given)
    return _order(given, shop, task, ImageFields, required=("image", "prompt"))


def order_generation(given: Fields, shop: Shop) -> Order:
    """Pictures made from text. Raises Problem."""
    if "generate" not in shop.model.tasks:
        raise _cannot(shop.model, "generate")
    return _order(given, shop, "generate", ImageFields, required=("prompt",))


def order_job(given: Fields, shop: Shop) -> Order:
    """Pictures of any task. Raises Problem."""
    _require(given, "task")
    values = given.several("task")
    task = values[0] if len(values) == 1 else values
    if not isinstance(task, str) or task not in TASK_OPTIONS:
        raise Problem(400, "invalid_value", f"task is {task!r:.60}. Choose one of {', '.join(TASK_OPTIONS)}.", "task")
    if task not in shop.model.tasks:
        raise _cannot(shop.model, task)
    return _order(given, shop, task, JobFields, required=sorted(TASK_OPTIONS[task].needs), beside=("task",))


def _order(
    given: Fields,
    shop: Shop,
    task: str,
    fields: type[RequestFields],
    *,
    required: Sequence[str],
    beside: Sequence[str] = (),
) -> Order:
    kind = TASK_OPTIONS[task]
    pictures = kind.needs | kind.may_have
    given.refuse_others([*beside, *sorted(pictures), *option_fields(fields), "lora", *option_fields(kind)])
    _require(given, *required)
    said = given.make(fields, given.parsed(fields))
    if said.model not in (None, shop.model.name):
        message = f"There is no model {said.model!r:.60} here. Use {shop.model.name}, or leave model out."
        raise Problem(404, "model_not_found", message, "model")
    values = given.parsed(kind)
    size = _apply(said, values, kind, shop.model)
    options = given.make(kind, values)
    _check_texts(said.prompt, options.negative_prompt, most=shop.max_prompt)
    image, mask, style = (given.picture(name) if name in pictures else None for name in ("image", "mask", "style"))
    try:
        output = said.output
        seeds = seeds_from(options.seed, said.n)
    except OptionError as error:
        raise given.problem(error) from error
    first = Asked(
        options=options,
        text=said.prompt,
        image=image,
        mask=mask,
        style=style,
        size=size,
        same_shape=size is not None,
        output=output,
        loras=given.loras(shop.loras),
        deadline_ms=said.deadline_ms,
        previews=_previews(said),
    )
    asked = (dataclasses.replace(first, options=dataclasses.replace(options, seed=seed)) for seed in seeds)
    return Order(tuple(asked), said, given)


def _apply(said: RequestFields, values: dict[str, Any], kind: type[Options], model: Model) -> tuple[int, int] | None:
    """Put OpenAI's quality and size into the options; returns the size to which a picture is brought, if it is."""
    if not isinstance(said, ImageFields):
        return None
    preset = QUALITIES.get(said.quality)
    if preset is not None:
        if "preset" in values:
            message = f"quality is {said.quality}, which is the preset {preset}, and there is a preset. Give one."
            raise Problem(400, "invalid_value", message, "quality")
        values["preset"] = preset
    size = read_size(said.size)
    if size is None:
        return None
    if issubclass(kind, PictureOptions):
        if values.get("resize", "exact") != "exact":
            message = f"size is {said.size}, and resize {values['resize']} has a size of its own. Give one of them."
            raise Problem(400, "invalid_value", message, "size")
        check_result(size)
        return size
    if "width" in values or "height" in values:
        raise Problem(400, "invalid_value", f"size is {said.size}, and there is a width or a height. Give one.", "size")
    check_new(size, model.size_multiple)
    values["width"], values["height"] = size
    return None


def _previews(said: RequestFields) -> int:
    if isinstance(said, ImageFields):
        return said.partial_images if said.stream else 0
    return said.partial_images if isinstance(said, JobFields) else 0


def _edit_task(model: Model, has_mask: bool) -> str:
    """What a model does with a picture and a text."""
    if "edit" in model.tasks:
        return "edit"
    task = "inpaint" if has_mask else "img2img"
    if task not in model.tasks:
        raise _cannot(model, "edit")
    return task


def _cannot(model: Model, task: str) -> Problem:
    message = f"The model {model.name} cannot {task}. It can {', '.join(model.tasks)}."
    return Problem(400, "unsupported_task", message, "model")


def _require(given: Fields, *names: str) -> None:
    for name in names:
        if name not in given:
            raise Problem(400, "missing_required_parameter", f"There is no {name}. Give it.", name)


def _check_texts(prompt: str, negative_prompt: str, *, most: int) -> None:
    for name, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if len(text) > most:
            message = f"{name} has {len(text)} characters, more than {most}. Shorten it."
            raise Problem(400, "string_above_max_length", message, name)
