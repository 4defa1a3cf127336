"""The flag `--embedding FILE[:TOKEN]` of the commands that make pictures, and of `pixrt export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pixrt.lora.embeddings import EmbeddingInput

EmbeddingFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        metavar="FILE[:TOKEN]",
        help="A textual-inversion embedding, and what is written for it in texts. Repeatable.",
    ),
]
_SUFFIXES = (".safetensors", ".pt", ".bin", ".pth")


def embedding_inputs(words: Sequence[str] | None) -> "tuple[EmbeddingInput, ...]":
    """File and token out of every word; a colon that follows no such file is the path's own."""
    return tuple(_split(word) for word in words or ())


def _split(word: str) -> "EmbeddingInput":
    name, _, token = word.rpartition(":")
    return (Path(name), token) if name.lower().endswith(_SUFFIXES) and token else Path(word)
