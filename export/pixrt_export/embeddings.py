"""Textual-inversion embeddings that an export puts into a bundle, as rows of the text encoder's own table.

They are read as the runtime reads them, and pickles besides, where that is asked for, by PyTorch's `weights_only`
loading: diffusers' `.bin`, and AUTOMATIC1111's `.pt` with `string_to_param` and a name.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pixrt.bundles.manifest import AddedToken
from pixrt.bundles.store import sha256_file
from pixrt.errors import EmbeddingError
from pixrt.lora.embeddings import PICKLES, Embedding, EmbeddingInput, embedding_of, load_embeddings, require_different
from pixrt_export.checkpoint import Checkpoint


def read_embeddings(
    given: Sequence[EmbeddingInput], checkpoint: Checkpoint, *, allow_pickle: bool
) -> tuple[Embedding, ...]:
    """Embeddings for a checkpoint's text encoder. Raises EmbeddingError."""
    width = int(checkpoint.text_encoder["hidden_size"])
    found = []
    for item in given:
        path, token = item if isinstance(item, tuple) else (item, None)
        if allow_pickle and Path(path).suffix.lower() in PICKLES:
            found.append(_unpickled(Path(path), token, width, checkpoint.id))
        else:
            found += load_embeddings([item], width, checkpoint.id)
    require_different(found)
    return tuple(found)


def add_rows(module: Any, embeddings: Sequence[Embedding]) -> None:
    """Put the vectors behind the rows of a text encoder's table, in place."""
    if embeddings:
        table = module.text_model.embeddings.token_embedding
        vectors = [torch.from_numpy(each.vectors) for each in embeddings]
        table.weight = torch.nn.Parameter(torch.cat([table.weight.detach(), *vectors]))
        module.config.vocab_size = table.num_embeddings = len(table.weight)


def added_tokens(embeddings: Sequence[Embedding], first: int) -> tuple[AddedToken, ...]:
    """What is written for embeddings whose rows begin at `first`."""
    tokens = []
    for each in embeddings:
        tokens.append(each.token(first, 1))
        first += len(each.vectors)
    return tuple(tokens)


def _unpickled(path: Path, token: str | None, width: int, target: str) -> Embedding:
    try:
        read: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many unrelated types
        raise EmbeddingError(
            f"{path} cannot be read with PyTorch's weights_only loading: {str(error).strip()[:200]}",
            remedy="Convert it to safetensors where it came from",
        ) from error
    if isinstance(read, dict) and isinstance(read.get("string_to_param"), dict):
        read = {str(read.get("name") or path.stem): each for each in read["string_to_param"].values()}
    tensors = read.items() if isinstance(read, dict) else ()
    arrays = {str(name): each.detach().float().numpy() for name, each in tensors if isinstance(each, torch.Tensor)}
    return embedding_of(path, arrays, sha256_file(path), token, width, target)
