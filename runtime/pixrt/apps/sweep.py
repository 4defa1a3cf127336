"""A sweep: every combination of lists of parameters for one edit. Must not import numpy or Pillow."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields
from pixrt.options.parsing import parse, spell
from pixrt.options.tasks import EditOptions, seeds_from

MAX_CELLS = 4096
# From what varies fastest, and is seen side by side, to what varies slowest.
SWEPT = ("guidance_scale", "image_guidance_scale", "steps", "seed", "scheduler")
_SHORT = {"guidance_scale": "guidance", "image_guidance_scale": "image", "scheduler": ""}
_FIELDS = option_fields(EditOptions)

Value = int | float | str


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter of `EditOptions` and the values that it takes in turn, each once."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination: its place in the sweep, and the value of each axis."""

    index: int
    values: Mapping[str, Value]


def parse_axis(name: str, text: str) -> Axis:
    """An axis out of a flag's text: values with commas. Raises OptionError for what is no value, none, or one twice."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise OptionError(f"{name} is {text!r:.60}", remedy="Give values with commas between them, such as 1,2")
    if len(words) > MAX_CELLS:
        raise OptionError(f"{name} has {len(words)} values", remedy=f"Give at most {MAX_CELLS}")
    values: list[Value] = [parse(_FIELDS[name], word) for word in words]
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise OptionError(f"{name} has {spell(twice)} twice", remedy="Give every value once")
    return Axis(name, tuple(values))


def parse_seeds(text: str, first: int | None) -> Axis:
    """The seeds: a list with commas, or how many there are from `first` on, which is drawn if it is None.

    All cells of a seed begin with the same noise, so what differs between them is what was swept. Raises OptionError.
    """
    if "," in text:
        if first is not None:
            raise OptionError(
                f"there is a list of seeds, {text!r:.60}, and a first one, {first}", remedy="Give one of them"
            )
        return parse_axis("seed", text)
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MAX_CELLS:
        remedy = f"Give how many, from 1 to {MAX_CELLS}, or a list with commas"
        raise OptionError(f"seeds is {text!r:.60}", remedy=remedy)
    EditOptions(seed=first)
    return Axis("seed", tuple(seeds_from(first, count)))


def make_cells(axes: Iterable[Axis]) -> list[Cell]:
    """Every combination, the first axis varying fastest. Raises OptionError for more than MAX_CELLS."""
    slowest_first = [*axes][::-1]
    count = math.prod(len(axis.values) for axis in slowest_first)
    if count > MAX_CELLS:
        product = " x ".join(str(len(axis.values)) for axis in slowest_first[::-1])
        raise OptionError(f"the lists have {product} = {count} combinations", remedy=f"At most {MAX_CELLS}: use less")
    names = [axis.name for axis in slowest_first]
    combinations = itertools.product(*(axis.values for axis in slowest_first))
    return [Cell(index, dict(zip(names, values, strict=True))) for index, values in enumerate(combinations)]


def several(axes: Iterable[Axis]) -> list[Axis]:
    """The axes along which anything changes."""
    return [axis for axis in axes if len(axis.values) > 1]


def file_name(cell: Cell, axes: Sequence[Axis]) -> str:
    """What a cell's picture is called: its place, then what was swept. Two cells never share a name."""
    digits = len(str(math.prod(len(axis.values) for axis in axes) - 1))
    words = [f"{_SHORT.get(axis.name, axis.name)}{spell(cell.values[axis.name])}" for axis in several(axes)]
    return "_".join([f"{cell.index:0{digits}}", *words]) + ".png"
