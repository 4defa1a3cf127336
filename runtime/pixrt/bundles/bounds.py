"""Bounds of what a manifest says, whatever the place: finite numbers of bounded size, texts that can be shown.

Must not import anything of pixrt but errors and decoding.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from pixrt.bundles.decoding import unusable

MOST = 1 << 53  # of a whole number, the last that JSON's readers agree on
LONGEST_TEXT = 10_000
# Of what is shown on a terminal, which obeys such characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def require_bounds(value: Any, where: str, key: str = "") -> None:
    """Raise BundleError for a number or a text in `value` that nothing could mean; `key` is its place in `where`."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            require_bounds(getattr(value, field.name), where, f"{key}.{field.name}" if key else field.name)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            require_bounds(name, where, f"a name in {key}")
            require_bounds(part, where, f"{key}.{name:.60}")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            require_bounds(part, where, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise unusable(where, f"{key} is {value}, which must be finite")
    elif isinstance(value, int) and abs(value) > MOST:
        raise unusable(where, f"{key} is {str(value)[:40]}, which must be from -{MOST} to {MOST}")
    elif isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise unusable(where, f"{key} is a text of {len(value)} characters, and {LONGEST_TEXT} are allowed")
        if found := _CONTROL.search(value):
            raise unusable(where, f"{key} holds the control character {found[0]!r}")


def require_within(number: float, low: float, high: float, where: str, key: str) -> None:
    """Raise BundleError unless a number is from `low` to `high`."""
    if not low <= number <= high:
        raise unusable(where, f"{key} is {number}, which must be from {low:g} to {high:g}")
