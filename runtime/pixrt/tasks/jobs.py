"""What a caller asks for: jobs, out of a call's arguments. Must not import a backend."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields
from pixrt.options.names import unknown_option
from pixrt.options.tasks import Options
from pixrt.pictures.formats import READABLE_SUFFIXES
from pixrt.pictures.images import PictureSource

Item = TypeVar("Item")

MAX_PICTURES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A picture to be made. The class of its options says by which task: `EditOptions`, `GenerateOptions` and so on.

    `text` is the instruction, or the prompt. Which pictures a task takes: see `pixrt.tasks.registry`.
    """

    options: Options
    text: str = ""
    image: PictureSource | None = None
    mask: PictureSource | None = None
    style: PictureSource | None = None


def is_several(value: object) -> bool:
    """Whether an argument holds several pictures or texts: a list or a tuple does."""
    return isinstance(value, list | tuple)


def pair(options: type[Options], parameters: Mapping[str, Any], **given: object) -> list[Job]:
    """Jobs out of a call's arguments: `given` are a job's text and pictures, each one or a list.

    Lists are paired one to one; one of anything goes with all of the others. One seed serves every picture, so that a
    picture's result does not depend on its company. Raises OptionError.
    """
    known = option_fields(options)
    for name in parameters:
        if name not in known:
            raise unknown_option(name, known, task=options.task)
    lists = {name: _as_list(value) for name, value in given.items()}
    seeds = list(parameters["seed"]) if has_several_seeds(parameters) else [parameters.get("seed")]
    count = max(map(len, (*lists.values(), seeds)))
    if not all((*lists.values(), seeds)) or count > MAX_PICTURES:
        counts = " and ".join(f"{len(values)} of {name}" for name, values in lists.items())
        raise OptionError(f"the call has {counts}", remedy=f"Pass from 1 to {MAX_PICTURES} of each")
    each = _spread([options(**{**parameters, "seed": seed}) for seed in seeds], count, "seed")
    columns = {name: _spread(values, count, name) for name, values in lists.items()}
    for picture, text in zip(columns.get("image", ()), columns["text"], strict=False):
        _require_order(picture, text)
    return [
        Job(options=each[index], **{name: values[index] for name, values in columns.items()}) for index in range(count)
    ]


def has_several_seeds(parameters: Mapping[str, Any]) -> bool:
    """Whether a call has several seeds: any sequence of numbers, a NumPy array too."""
    seed = parameters.get("seed")
    return isinstance(seed, Iterable) and not isinstance(seed, str | bytes)


def _require_order(picture: object, text: object) -> None:
    """Raise OptionError where a picture's name stands for the text, and the text for the picture."""

    def names_picture(value: object) -> bool:
        return not isinstance(value, str) or value.lower().endswith(READABLE_SUFFIXES)

    if isinstance(picture, str) and names_picture(text) and not names_picture(picture):
        raise OptionError(
            f"the picture is {picture!r:.60}, and the text is a picture: they are swapped",
            remedy="Pass the picture first, then the text",
            option="text",
        )


def _as_list(value: Any) -> list[Any]:
    return list(value) if is_several(value) else [value]


def _spread(items: list[Item], count: int, name: str) -> list[Item]:
    if len(items) == 1:
        return items * count
    if len(items) != count:
        raise OptionError(
            f"{len(items)} of {name} for {count} pictures", remedy=f"Pass 1 or {count}: they are paired one to one"
        )
    return items
