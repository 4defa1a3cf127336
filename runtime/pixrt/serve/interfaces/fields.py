"""The fields of a request for pictures, and what they ask for: `Asked` objects, through the one parser of options.

What is served, what asks for nothing, what is refused by name and what nobody knows: the tables of this file. Knows no
HTTP. Must not import numpy or Pillow.
"""

import base64
import binascii
import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields, rule_of
from pixrt.options.parsing import parse
from pixrt.serve.problems import Problem
from pixrt.serve.statuses import problem_of

Known = TypeVar("Known")

_LONGEST_NAME = 100  # that is compared with those that there are: that takes its time

# What others call our options.
ALIASES: Mapping[str, str] = {"num_inference_steps": "steps"}

# Fields of OpenAI's that are not served, and what to do instead.
UNSUPPORTED: Mapping[str, str] = {
    "input_fidelity": "Use image_guidance_scale: how strongly the picture is kept",
    "complexity": "Use steps or quality",
    "markup": "Send a mask, and say the rest in the prompt",
    "frame_count": "One picture is made, no animation: leave it out",
    "frame_duration_ms": "One picture is made, no animation: leave it out",
    "svg": "Pictures are PNG, JPEG or WebP: leave it out",
    "style": "Say the style in the prompt, or post a job of the task style to /v1/jobs",
    "images": "Send the picture itself, as the file `image`",
    "image_url": "Send the picture itself, as the file `image`",
    "file_id": "Send the picture itself, as the file `image`",
}

# Values of OpenAI's that are not served, by field.
UNSUPPORTED_VALUES: Mapping[str, Mapping[str, str]] = {
    "response_format": {"url": "Pictures are in the answer itself: b64_json"},
    "output_format": {
        "gif": "Use png, jpeg or webp",
        "svg": "Use png, jpeg or webp",
    },
    "background": {"transparent": "Leave it out: the picture's own transparency is kept in PNG and WebP"},
    "quality": dict.fromkeys(("xhigh", "max", "hd"), "high is the most; more steps can be had by steps"),
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a form."""

    data: bytes = field(repr=False)


class Fields:
    """The fields of one request: from a form, in order, or from a JSON object.

    A form's `name[]` is a list's item. A JSON null says nothing. Raises Problem for text that is no Unicode.
    """

    def __init__(self, items: Iterable[tuple[str, Any]], *, is_json: bool = False) -> None:
        self.is_json = is_json
        self._said: dict[str, tuple[str, list[Any]]] = {}  # what it was called, and its values
        for said, value in items:
            for text in (said, value):
                if isinstance(text, str) and not is_unicode(text):
                    raise Problem(400, "invalid_value", f"{said!r:.60} holds text that is no Unicode. Send UTF-8.")
            plain = said.removesuffix("[]")
            name = ALIASES.get(plain, plain)
            if value is None:
                continue
            first, values = self._said.setdefault(name, (plain, []))
            if first != plain:
                raise Problem(
                    400, "unknown_parameter", f"{first} and {plain} are the same. Give one of them.", plain[:60]
                )
            values.append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._said

    def called(self, name: str) -> str:
        """What the client calls a field."""
        return self._said[name][0] if name in self._said else name

    def refuse_others(self, known: Collection[str]) -> None:
        """Raise Problem for the first field that is none of `known`."""
        for name, (said, _) in self._said.items():
            if name in known:
                continue
            base = name.partition("[")[0]
            if base in UNSUPPORTED:
                raise Problem(400, "unsupported_parameter", f"{base} is not supported. {UNSUPPORTED[base]}.", base)
            near = difflib.get_close_matches(name[:_LONGEST_NAME], [*known, *ALIASES], 1)
            remedy = f"Did you mean {near[0]}?" if near else "Leave it out."
            raise Problem(400, "unknown_parameter", f"There is no parameter {said!r:.60}. {remedy}", said[:60])

    def several(self, name: str) -> list[Any]:
        """All values of a field that may be given several times."""
        values = self._said[name][1] if name in self._said else []
        return [each for value in values for each in (value if isinstance(value, list) else [value])]

    def parsed(self, options: type[Any], names: Collection[str] | None = None) -> dict[str, Any]:
        """The values of a class's fields that are given, parsed. Raises Problem."""
        found = {}
        for name, each in option_fields(options).items():
            if name not in self._said or (names is not None and name not in names):
                continue
            value, called = self._value(name, rule_of(each).kind), self.called(name)
            refused = UNSUPPORTED_VALUES.get(name, {})
            if isinstance(value, str) and value in refused:
                message = f"{called} is {value!r}, which is not supported. {refused[value]}."
                raise Problem(400, "unsupported_value", message, called)
            if isinstance(value, str) and not value.strip() and rule_of(each).kind in ("whole", "number"):
                raise Problem(400, "unknown_parameter", f"{called} is an empty text. Give a number.", called)
            try:
                found[name] = parse(each, value)
            except OptionError as error:
                raise self.problem(error) from error
        return found

    def problem(self, error: OptionError) -> Problem:
        """What the client is told of an error, the parameter called as the client does."""
        return self.told(problem_of(error))

    def told(self, problem: Problem) -> Problem:
        """The same problem, its parameter called as the client does."""
        if problem.param:
            problem.param = self.called(problem.param)
        return problem

    def make(self, options: type[Known], values: Mapping[str, Any]) -> Known:
        """An object of a class of options. Raises Problem for values that do not fit one another."""
        try:
            return options(**values)
        except OptionError as error:
            raise self.problem(error) from error

    def picture(self, name: str) -> bytes | None:
        """The bytes of a picture: a form's file, or base64 in JSON. A text is never a path or a URL. Raises Problem."""
        values = self.several(name)
        if len(values) > 1:
            message = f"{name} is given {len(values)} times, and one picture is taken. Send one request for each."
            raise Problem(400, "unsupported_parameter", message, name)
        if not values or isinstance(values[0], Upload):
            return values[0].data if values else None
        if not isinstance(values[0], str):
            kind = "as base64" if self.is_json else "as a file"
            raise Problem(400, "invalid_value", f"{name} is no picture. Send it {kind}.", name)
        return _from_base64(values[0], name, self.is_json)

    def loras(self, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
        """LoRAs as `name` or `name:scale`, of the names that the server has. Raises Problem."""
        return tuple(_lora(value, names) for value in self.several("lora"))

    def _value(self, name: str, kind: str) -> Any:
        called, values = self._said[name]
        if kind == "window" and len(values) == 2:
            return tuple(values)
        if len(values) > 1:
            raise Problem(400, "unknown_parameter", f"{called} is given {len(values)} times. Give it once.", called)
        if isinstance(values[0], Upload):
            raise Problem(400, "invalid_value", f"{called} is a file. Send it as a text field.", called)
        return values[0]


def is_unicode(text: str) -> bool:
    """Whether a text can be written at all: JSON may hold half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_base64(text: str, name: str, is_json: bool) -> bytes:
    if "://" in text[:16] or not is_json:
        remedy = "Send the picture itself, base64" if is_json else "Send the picture as a file, with a file name"
        message = f"{name} is a text, and no text is taken for a path, a URL or a file's id. {remedy}."
        raise Problem(400, "unsupported_parameter", message, name)
    head, comma, data = text.partition(",")
    try:
        return base64.b64decode(data if comma and head.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        message = f"{name} is not base64. Send the bytes of a picture file, base64."
        raise Problem(400, "invalid_value", message, name) from None


def _lora(value: object, names: Sequence[str]) -> tuple[str, float]:
    if not isinstance(value, str):
        raise Problem(400, "invalid_value", f"lora holds {value!r:.60}. Write NAME or NAME:SCALE.", "lora")
    name, scale = value, 1.0
    if value not in names and ":" in value:
        name, _, text = value.rpartition(":")
        try:
            scale = float(text)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise Problem(400, "invalid_value", f"lora has the scale {text!r:.60}. Give a finite number.", "lora")
    if name not in names:
        near = difflib.get_close_matches(name[:_LONGEST_NAME], names, 1)
        known = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(names)}." if names else "There are none."
        raise Problem(400, "invalid_lora", f"There is no LoRA {name!r:.60}. {known}", "lora")
    return name, scale
