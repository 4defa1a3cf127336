"""Figures as JSON: four digits are more than a simulation knows."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from pixrt.files import atomic_write


def write(path: Path, facts: Any) -> None:
    """Replace a file, whole or not at all. The same facts are the same bytes."""
    with atomic_write(path) as file:
        file.write((text(facts) + "\n").encode())


def text(facts: Any) -> str:
    """JSON; what is not a number is null."""
    return json.dumps(_plain(facts), indent=1)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.4g}")
    return value
