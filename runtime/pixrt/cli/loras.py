"""The flag `--lora FILE[:scale]` of `pixrt edit` and `pixrt export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pixrt.errors import LoraError

LoraFlag = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE[:SCALE]", help="A LoRA, safetensors as diffusers saves it. Repeatable."),
]


def lora_inputs(words: Sequence[str] | None) -> tuple[tuple[Path, float], ...]:
    """File and scale out of every `FILE[:scale]`. Raises LoraError for a scale that is no number."""
    return tuple(_split(word) for word in words or ())


def _split(word: str) -> tuple[Path, float]:
    name, _, scale = word.rpartition(":")
    if not name:
        return Path(word), 1.0
    try:
        return Path(name), float(scale)
    except ValueError:
        if name.lower().endswith(".safetensors"):
            raise LoraError(f"the scale of the LoRA {name} is {scale!r:.60}", remedy="Give a finite number") from None
        return Path(word), 1.0  # the colon is the path's own
