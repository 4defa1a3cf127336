"""Options as JSON Schema (draft 2020-12): what a client, or the page, may send. Must not import numpy or Pillow."""

import inspect
from collections.abc import Mapping
from typing import Any

from pixrt.options.fields import Field, group_of, option_fields, rule_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {"whole": "integer", "number": "number", "choice": "string", "text": "string", "flag": "boolean"}


def json_schema(options: type[Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object that holds any of a class's options.

    `defaults` are those that a bundle has where the class says None. Paths are left out: a string from the network is
    never one.
    """
    fields = {name: each for name, each in option_fields(options).items() if rule_of(each).kind != "path"}
    return {
        "$schema": DRAFT,
        "title": name,
        "description": inspect.getdoc(options) or "",
        "type": "object",
        "properties": {
            name: _property(each, defaults.get(name, each.default)) | {"x-group": group_of(options, each)}
            for name, each in fields.items()
        },
        "additionalProperties": False,
    }


def _property(field: Field, default: object) -> dict[str, Any]:
    rule, nullable = rule_of(field), field.default is None
    found: dict[str, Any] = {
        "title": field.name.replace("_", " ").capitalize(),
        "description": rule.help,
        "default": list(default) if isinstance(default, tuple) else default,
    }
    if rule.kind == "window":
        share = {"type": "number", "minimum": 0, "maximum": 1}
        return found | {"type": _type("array", nullable), "items": share, "minItems": 2, "maxItems": 2}
    if rule.kind == "pairs":
        return found | {"type": _type("object", nullable), "additionalProperties": {"type": "string"}}
    found["type"] = _type(_TYPES[rule.kind], nullable)
    if rule.kind == "choice":
        found["enum"] = [*rule.choices, *([None] if nullable else [])]
    bounds = {
        "minimum": rule.low,
        "maximum": rule.high,
        "exclusiveMinimum": rule.above,
        "exclusiveMaximum": rule.below,
    }
    return found | {name: bound for name, bound in bounds.items() if bound is not None}


def _type(name: str, nullable: bool) -> str | list[str]:
    return [name, "null"] if nullable else name
