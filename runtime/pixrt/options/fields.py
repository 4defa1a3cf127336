"""A setting, said once: a dataclass field that carries its kind, range, help and group, and what follows from them.

`validate` checks what Python code gives; `pixrt.options.parsing` reads texts and JSON values, and
`pixrt.options.schema` describes the fields to others. Must not import numpy or Pillow.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pixrt.errors import OptionError
from pixrt.options.names import choose, nearest

Kind = Literal["whole", "number", "choice", "window", "text", "flag", "pairs", "path"]
Field = dataclasses.Field[Any]

_RULE = "pixrt"  # where a field's metadata has it


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may hold.

    Attributes:
        kind: whole and number are numbers; a window is two fractions of the steps; pairs are texts by their names; a
            path is given by Python code or a flag only, never as text out of a file or from the network.
        low, high: the bounds, which belong to the range; above, below: bounds that do not.
        group: with what it stands in help and on a page; "" with what is most its class's own.
        flag: the flag's name where that is another than the field's.
        remedy: what to do where a value is out of range, in place of the words that follow from the range.
    """

    kind: Kind
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    group: str = ""
    flag: str = ""
    remedy: str = ""


def option(
    default: Any,
    help: str,
    *,
    kind: Kind,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    group: str = "",
    flag: str = "",
    remedy: str = "",
) -> Any:
    """A dataclass field with its `Rule`. A default of None means that None is a value too."""
    rule = Rule(kind, help, low, high, above, below, choices, group, flag, remedy)
    return field(default=default, metadata={_RULE: rule})


def rule_of(field: Field) -> Rule:
    """What `option` said of a field."""
    rule: Rule = field.metadata[_RULE]
    return rule


def option_fields(options: Any) -> dict[str, Field]:
    """The fields of a dataclass that `option` made, by name."""
    return {field.name: field for field in dataclasses.fields(options) if _RULE in field.metadata}


def group_of(options: type[Any], field: Field) -> str:
    """The group of a field; what has none of its own is about the task itself."""
    return rule_of(field).group or str(getattr(options, "task", "options")).capitalize()


def range_of(rule: Rule) -> str:
    """The range in words, such as "from 1 to 1000" or "more than 0"; "" where every number will do."""
    if rule.low is not None and rule.high is None and rule.below is None:
        return f"{rule.low} or more"
    least = (
        f"from {rule.low} to" if rule.low is not None else f"more than {rule.above}" if rule.above is not None else ""
    )
    most = f"less than {rule.below}" if rule.below is not None else "" if rule.high is None else str(rule.high)
    if rule.low is not None or not most:
        return f"{least} {most}".strip()
    most = most if rule.high is None else f"at most {most}"
    return f"{least} and {most}" if least else most


def validate(options: Any) -> None:
    """Check every field of a frozen dataclass, and keep its values as Python's own. Raises OptionError."""
    for name, each in option_fields(options).items():
        object.__setattr__(options, name, check(each, getattr(options, name)))


def check(field: Field, value: object) -> Any:
    """The value of a field, given by Python code: no text is read as a number. Raises OptionError, which names it."""
    if value is None and field.default is None:
        return None
    return _CHECKS[rule_of(field).kind](field, value)


def _check_number(field: Field, value: object) -> int | float:
    """Within its bounds, and as Python's own: NumPy's are taken too, but what is kept must be plain JSON."""
    rule = rule_of(field)
    whole = rule.kind == "whole"
    words = range_of(rule)
    remedy = rule.remedy or (f"It must be {words}" if words else "It must be finite")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
        name = "a whole number" if whole else "a number"
        raise OptionError(f"{field.name} is {value!r:.60}, which is not {name}", remedy=remedy, option=field.name)
    if not _is_within(rule, value):  # before the conversion: floats end at 1.8e308
        raise OptionError(f"{field.name} is {value!s:.60}", remedy=remedy, option=field.name)
    return int(value) if whole else float(value)  # type: ignore[call-overload]  # Integral has no stub for it


def _is_within(rule: Rule, value: Any) -> bool:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        finite = rule.kind == "whole"
    return (
        finite
        and (rule.low is None or value >= rule.low)
        and (rule.high is None or value <= rule.high)
        and (rule.above is None or value > rule.above)
        and (rule.below is None or value < rule.below)
    )


def _check_choice(field: Field, value: object) -> str:
    choices: Collection[str] = rule_of(field).choices
    chosen = choose(value, choices) if isinstance(value, str) else None
    if chosen is None:
        near = nearest(value, choices) if isinstance(value, str) else ""
        remedy = f"Choose one of {', '.join(choices)}{f'; the nearest is {near}' if near else ''}"
        raise OptionError(f"{field.name} is {value!r:.60}", remedy=remedy, option=field.name)
    return chosen


def _check_window(field: Field, value: object) -> tuple[float, float]:
    if not (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in value)
        and 0 <= value[0] <= value[1] <= 1
    ):
        raise OptionError(
            f"{field.name} is {value!r:.60}",
            remedy="Pass two fractions of the steps, 0 <= first <= second <= 1, for example (0.0, 0.8)",
            option=field.name,
        )
    return float(value[0]), float(value[1])


def _check_text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{field.name} is {value!r:.60}", remedy="Pass a string", option=field.name)
    return value


def _check_flag(field: Field, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{field.name} is {value!r:.60}", remedy="It must be true or false", option=field.name)
    return value


def _check_pairs(field: Field, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        remedy = "Give texts by their names: {'device_id': '0'}"
        raise OptionError(f"{field.name} is {value!r:.60}", remedy=remedy, option=field.name)
    return dict(value)


def _check_path(field: Field, value: object) -> Path:
    if not isinstance(value, Path):
        problem = f"{field.name} is {value!r:.60}, which is no path"
        raise OptionError(problem, remedy="Pass a pathlib.Path", option=field.name)
    return value


_CHECKS: Mapping[Kind, Callable[[Field, object], Any]] = {
    "whole": _check_number,
    "number": _check_number,
    "choice": _check_choice,
    "window": _check_window,
    "text": _check_text,
    "flag": _check_flag,
    "pairs": _check_pairs,
    "path": _check_path,
}
