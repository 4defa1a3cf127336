"""JSON into frozen dataclasses, strictly: nothing missing, nothing unknown, every type as declared.

Must not import numpy, Pillow or anything of pixrt but errors.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pixrt.errors import BundleError

T = TypeVar("T")


def decode(kind: Any, value: Any, where: str, key: str) -> Any:
    """Build `kind` (a dataclass, tuple, dict, Literal, union, plain type) from JSON, or raise BundleError.

    `where` names the file and `key` the place in it. What a dataclass has a default for may be missing.
    """
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), value, where, key)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(decode(arguments[0], item, where, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: decode(arguments[1], item, where, f"{key}.{name}") for name, item in value.items()}
    if origin in (types.UnionType, typing.Union):
        if type(value) in arguments:
            return value
        described = [argument for argument in arguments if dataclasses.is_dataclass(argument)]
        if described and isinstance(value, dict):
            return decode(described[0], value, where, key)
    if kind is Any or (kind is float and type(value) is int):
        return value if kind is Any else float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise unusable(where, f"{key} is {str(value)[:60]!r}, which is not {_describe(kind)}")


def _decode_dataclass(kind: type[T], value: Any, where: str, key: str) -> T:
    if not isinstance(value, Mapping):
        raise unusable(where, f"{key or 'the manifest'} is not a JSON object")
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    fields = dataclasses.fields(typing.cast(Any, kind))
    missing = dataclasses.MISSING
    needed = {field.name for field in fields if field.default is missing and field.default_factory is missing}
    for name in sorted(needed - value.keys()):
        raise unusable(where, f"the key {prefix}{name} is missing")
    for name in sorted(value.keys() - hints.keys()):
        raise unusable(where, f"the key {prefix}{name} is unknown")
    return kind(**{name: decode(hints[name], given, where, prefix + name) for name, given in value.items()})


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return getattr(kind, "__name__", None) or str(kind)


def unusable(where: str, problem: str) -> BundleError:
    """The error of a manifest that cannot be used."""
    return BundleError(f"{where} cannot be used: {problem}", remedy="Export the checkpoint again with `pixrt export`")
