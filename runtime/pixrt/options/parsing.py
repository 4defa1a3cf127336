"""The one parser of options: texts and JSON values by the same rules, wherever they come from.

A flag, a cell of a table, an axis of a sweep, a picture's metadata, a field or a body from the network. Must not import
numpy or Pillow.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pixrt.errors import OptionError
from pixrt.options.fields import Field, Kind, check, option_fields, rule_of
from pixrt.options.names import unknown_option


def parse(field: Field, value: object) -> Any:
    """The value of a field out of a text or a JSON value: "5" and 5 are the same. Raises OptionError, as `check`."""
    kind = rule_of(field).kind
    if isinstance(value, str) and kind in _READERS:
        value = _READERS[kind](value)
    elif isinstance(value, list | tuple) and kind == "window":
        value = tuple(_number(part) if isinstance(part, str) else part for part in value)
    elif isinstance(value, list | tuple) and kind == "pairs":
        value = _pairs(field.name, value)
    return check(field, value)


def parse_all(options: type[Any], values: Mapping[str, object]) -> dict[str, Any]:
    """Values of some fields, each parsed. Raises OptionError, also for a name that is no field's."""
    fields = option_fields(options)
    for name in values:
        if name not in fields:
            raise unknown_option(name, fields)
    return {name: parse(fields[name], value) for name, value in values.items()}


def spell(value: object) -> str:
    """A value as the shortest text that `parse` reads as the same value."""
    if isinstance(value, tuple):
        return " ".join(map(spell, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def _whole(text: str) -> object:
    """The number that a text is, or the text: checking it says what is wrong."""
    return int(text) if re.fullmatch(r"\s*[+-]?[0-9]{1,4000}\s*", text) else text


def _number(text: str) -> object:
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _window(text: str) -> object:
    parts = tuple(map(_number, text.replace(",", " ", 1).split()))
    return parts if len(parts) == 2 else text


def _flag(text: str) -> object:
    return {"true": True, "false": False}.get(text.strip().lower(), text)


def _pairs(name: str, words: Collection[object]) -> dict[str, str]:
    """Pairs out of words such as NAME=VALUE. Raises OptionError."""
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=") if isinstance(word, str) else ("", "", "")
        if not key or not equals:
            raise OptionError(f"{name} holds {word!r:.60}", remedy="Write it as NAME=VALUE", option=name)
        pairs[key] = value
    return pairs


_READERS: Mapping[Kind, Callable[[str], object]] = {
    "whole": _whole,
    "number": _number,
    "window": _window,
    "flag": _flag,
}
