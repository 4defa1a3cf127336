"""What a request for pictures asks for, by interface: its fields and its task's options become `Asked` objects.

Knows no HTTP. Must not import numpy or Pillow.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pixrt.errors import OptionError
from pixrt.options.fields import option, option_fields, validate
from pixrt.options.tasks import TASK_OPTIONS, Options, PictureOptions, seeds_from
from pixrt.serve.fields import UNSUPPORTED, Fields
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.sizes import AUTO, check_new, check_result, read_size
from pixrt.serve.tickets import Asked, Output

FORMATS = ("png", "jpeg", "webp")
MOST_PICTURES = 10
MOST_PREVIEWS = 3
MOST_JOB_PREVIEWS = 10
_DAY_MS = 86_400_000

# What a quality sets. `medium` is what the model is made for, so it sets nothing, as `auto` does.
QUALITIES: Mapping[str, str | None] = {"low": "fast", "medium": None, "high": "quality"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFields:
    """What a request may say beside its task's options. Validated on construction: OptionError."""

    prompt: str = option("", "The instruction of an edit, or what the picture should show.", kind="text")
    n: int = option(
        1, "How many pictures; each one's seed is one more than the last's.", kind="whole", low=1, high=MOST_PICTURES
    )
    output_format: Literal["png", "jpeg", "webp"] = option(
        "png", "The format of the pictures.", kind="choice", choices=FORMATS
    )
    output_compression: int | None = option(
        None, "The quality of JPEG and WebP, 100 the best; 95 if not given.", kind="whole", low=0, high=100
    )
    deadline_ms: int | None = option(
        None,
        "Milliseconds from now after which the pictures are not wanted any more; refused at once if they cannot be"
        " done by then.",
        kind="whole",
        low=1,
        high=_DAY_MS,
    )
    model: str | None = option(None, "The name of this server's model, or nothing.", kind="text")
    user: str | None = option(None, "Given back as it is; never logged.", kind="text")
    safety_identifier: str | None = option(None, "Given back as it is; never logged.", kind="text")

    def __post_init__(self) -> None:
        validate(self)

    @property
    def output(self) -> Output:
        """The file that is wanted. Raises OptionError: PNG has no quality."""
        if self.output_compression is None:
            return Output(self.output_format)
        if self.output_format == "png" and self.output_compression < 100:
            raise OptionError(
                f"output_compression is {self.output_compression}, and PNG has no quality",
                remedy="Leave it out, or choose jpeg or webp as output_format",
                option="output_compression",
            )
        return Output(self.output_format, max(1, self.output_compression))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFields(RequestFields):
    """What a request to OpenAI's images API may say beside the options of an edit or of a generation."""

    size: str = option(
        AUTO,
        "auto, or WIDTHxHEIGHT: an edit's must have the picture's proportions, a new picture's sides are multiples of"
        " what the model takes.",
        kind="text",
    )
    quality: Literal["auto", "standard", "low", "medium", "high"] = option(
        AUTO,
        "low is the preset fast, high the preset quality; the others are the model's own defaults.",
        kind="choice",
        choices=(AUTO, "standard", *QUALITIES),
    )
    background: Literal["auto", "opaque"] = option(
        AUTO, "Asks for nothing: a picture keeps its transparency.", kind="choice", choices=(AUTO, "opaque")
    )
    moderation: Literal["auto", "low"] = option(
        AUTO, "Asks for nothing: there is none.", kind="choice", choices=(AUTO, "low")
    )
    response_format: Literal["b64_json"] = option(
        "b64_json", "Pictures are in the answer itself, base64.", kind="choice", choices=("b64_json",)
    )
    stream: bool = option(False, "Answer with server-sent events.", kind="flag")
    partial_images: int = option(
        0,
        "With stream: how many pictures of the way to it, spread over the steps.",
        kind="whole",
        low=0,
        high=MOST_PREVIEWS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFields(RequestFields):
    """What a job may say beside its task's options."""

    partial_images: int = option(
        0,
        "How many pictures of the way to it, spread over the steps.",
        kind="whole",
        low=0,
        high=MOST_JOB_PREVIEWS,
    )


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
    _require(given, "prompt", "image")
    return _order(given, shop, task, ImageFields, pictures=("image", "mask"), without={"moderation"})


def order_generation(given: Fields, shop: Shop) -> Order:
    """Pictures made from text. Raises Problem."""
    if "generate" not in shop.model.tasks:
        raise _cannot(shop.model, "generate")
    _require(given, "prompt")
    return _order(given, shop, "generate", ImageFields)


def order_job(given: Fields, shop: Shop) -> Order:
    """Pictures of any task. Raises Problem."""
    _require(given, "task")
    values = given.several("task")
    task = values[0] if len(values) == 1 else values
    if not isinstance(task, str) or task not in TASK_OPTIONS:
        raise Problem(400, "invalid_value", f"task is {task!r:.60}. Choose one of {', '.join(TASK_OPTIONS)}.", "task")
    if task not in shop.model.tasks:
        raise _cannot(shop.model, task)
    kind = TASK_OPTIONS[task]
    pictures = tuple(name for name in ("image", "mask", "style") if name in kind.needs | kind.may_have)
    _require(given, *(name for name in pictures if name in kind.needs))
    return _order(given, shop, task, JobFields, pictures=pictures, beside={"task"})


def known_fields(
    fields: type[RequestFields], kind: type[Options], pictures: Sequence[str], without: Collection[str] = ()
) -> list[str]:
    """The names that a request may have."""
    return [*pictures, *(name for name in option_fields(fields) if name not in without), "lora", *option_fields(kind)]


def _order(
    given: Fields,
    shop: Shop,
    task: str,
    fields: type[RequestFields],
    *,
    pictures: Sequence[str] = (),
    without: Collection[str] = (),
    beside: Collection[str] = (),
) -> Order:
    kind = TASK_OPTIONS[task]
    unsupported = {name: remedy for name, remedy in UNSUPPORTED.items() if name not in pictures}
    given.refuse_others([*known_fields(fields, kind, pictures, without), *beside], unsupported)
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
