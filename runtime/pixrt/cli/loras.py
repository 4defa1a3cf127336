"""The flag `--lora FILE[:scale[:text encoder's scale]]` of `pixrt edit` and `pixrt export`."""

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixrt.errors import LoraError

if TYPE_CHECKING:
    from pixrt.lora.merging import LoraInput

LoraFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE[:X[:X]]",
        help="A LoRA, LoHa or LoKr: safetensors, or peft's folder. X: its scale, then the text encoder's. Repeatable.",
    ),
]
_WITH_SCALES = re.compile(r"(.+\.safetensors):([^/\\]*)", re.IGNORECASE)
_FOLDER = re.compile(r"(.+?):(-?[\d.]+(?:e-?\d+)?(?::-?[\d.]+(?:e-?\d+)?)?)", re.IGNORECASE)


def lora_inputs(words: Sequence[str] | None) -> "tuple[LoraInput, ...]":
    """File and scales out of every word. Raises LoraError for a scale that is no number."""
    return tuple(_split(word) for word in words or ())


def _split(word: str) -> "LoraInput":
    match = _WITH_SCALES.fullmatch(word) or _FOLDER.fullmatch(word)
    if match is None:  # without a scale; a colon is the path's own
        return Path(word), 1.0
    name, scales = match.groups()
    try:
        first, *second = map(float, scales.split(":"))
    except ValueError:
        first, second = float("nan"), []
    if len(second) > 1 or not all(map(isfinite, (first, *second))):
        raise LoraError(f"the scale of the LoRA {name} is {scales!r:.60}", remedy="Give a finite number, or two")
    return (Path(name), first, second[0]) if second else (Path(name), first)
