"""Textual-inversion embeddings (Gal et al. 2022, arXiv:2208.01618): vectors that stand for a word of the user's.

Files are diffusers' (`{"<token>": vectors}`) and AUTOMATIC1111's (`emb_params`; `string_to_param` in pickles), with one
vector or several. Pickles are not read here: the export does, where it is asked to. Must not import a backend.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixrt.backends.protocol import Array
from pixrt.bundles.manifest import AddedToken, Component, EmbeddingSpec, Manifest
from pixrt.errors import EmbeddingError
from pixrt.lora.safetensors import MalformedTensors, TensorFile

EmbeddingInput = str | os.PathLike[str] | tuple[str | os.PathLike[str], str]
"""A file, or the file and what is to be written for it; else that is what the file says, or is called."""

INPUT = "embeddings"  # of the text encoder's graph
SUFFIX = ".safetensors"
PICKLES = (".bin", ".pt", ".pth")
_A1111 = "emb_params"
_XL = ("clip_l", "clip_g", "clip_h")
_MOST_BYTES = 256 << 20
_LONGEST_TOKEN = 100
_GIVE = "Give a textual-inversion file of diffusers or AUTOMATIC1111"


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Which it is, and its vectors `[N, D]`."""

    spec: EmbeddingSpec
    vectors: NDArray[np.float32]

    def token(self, first: int, step: int) -> AddedToken:
        """What is written for it, as a token whose ids begin at `first`."""
        return AddedToken(self.spec.token, tuple(first + step * each for each in range(len(self.vectors))))


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Embeddings for a bundle's text encoder: the tokens they are written as, and the rows of its second input."""

    specs: tuple[EmbeddingSpec, ...] = ()
    tokens: tuple[AddedToken, ...] = ()
    rows: NDArray[np.float32] | None = None


def load_embeddings(given: Sequence[EmbeddingInput], width: int, target: str) -> tuple[Embedding, ...]:
    """Read files for a text encoder whose embeddings are `width` wide; `target` names it. Raises EmbeddingError."""
    if isinstance(given, str | bytes):
        raise EmbeddingError("embeddings is one string", remedy="Give a list of files, or of (file, token) pairs")
    found: list[Embedding] = []
    for item in given:
        path, token = _path_and_token(item)
        found.append(embedding_of(path, *_read(path), token, width, target))
    require_different(found)
    return tuple(found)


def give(given: Sequence[EmbeddingInput], manifest: Manifest) -> Given:
    """Embeddings for a bundle, read and laid out. Raises EmbeddingError, also for a bundle that can be given none."""
    if not given:
        return Given()
    target = f"the bundle {manifest.name!r}"
    room = next((each for each in manifest.component(Component.TEXT_ENCODER).inputs if each.name == INPUT), None)
    if room is None:
        raise EmbeddingError(
            f"the text encoder of {target} cannot be given embeddings: an older pixrt exported it",
            remedy="Export the checkpoint again with this version's `pixrt export`",
        )
    most, width = room.fixed(0), room.fixed(1)
    embeddings = load_embeddings(given, width, target)
    tokenizer = manifest.tokenizers[0]
    own = {tokenizer.bos_token, tokenizer.eos_token, *(each.content for each in tokenizer.added)}
    for each in embeddings:
        if each.spec.token in own:
            problem = (
                f"{each.spec.name} is to be written as {each.spec.token!r:.60}, which is a token of {target} already"
            )
            raise EmbeddingError(problem, remedy="Name another: FILE:TOKEN")
    total = sum(len(each.vectors) for each in embeddings)
    if total > most:
        raise EmbeddingError(f"the embeddings have {total} vectors, more than {most}", remedy="Use fewer of them")
    rows, tokens, start = np.zeros((most, width), np.float32), [], 0
    for each in embeddings:
        tokens.append(each.token(-1 - start, -1))  # to the graph -1 is the first row
        rows[start : start + len(each.vectors)] = each.vectors
        start += len(each.vectors)
    return Given(tuple(each.spec for each in embeddings), tuple(tokens), rows)


def embedding_of(
    path: Path, tensors: Mapping[str, Array], sha256: str, token: str | None, width: int, target: str
) -> Embedding:
    """An embedding out of a file's tensors. Raises EmbeddingError."""
    if any(name in tensors for name in _XL):
        raise EmbeddingError(
            f"{path} is an embedding for Stable Diffusion XL or 3 ({', '.join(n for n in _XL if n in tensors)})",
            remedy=f"Use one made for {target}",
        )
    if len(tensors) != 1:
        raise EmbeddingError(f"{path} holds {len(tensors)} tensors, and an embedding is one", remedy=_GIVE)
    ((name, values),) = tensors.items()
    token = token or (path.stem if name in (_A1111, "*") else name)
    if not token.strip() or len(token) > _LONGEST_TOKEN or not token.isprintable():
        raise EmbeddingError(f"{path} is to be written as {token!r:.60}", remedy="Say another: FILE:TOKEN")
    vectors = np.atleast_2d(np.asarray(values)).astype(np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise EmbeddingError(
            f"the vectors of {path} are {vectors.shape[-1]} wide, those of {target} are {width}",
            remedy="Use an embedding made for this kind of checkpoint: 768 is Stable Diffusion 1.x, 1024 is 2.x",
        )
    if not np.isfinite(vectors).all():
        raise EmbeddingError(f"{path} holds values that are not finite", remedy="Get it again")
    called = path.name.encode(errors="replace").decode()  # it goes into metadata, which is Unicode
    return Embedding(EmbeddingSpec(called, token, sha256), vectors)


def require_different(embeddings: Sequence[Embedding]) -> None:
    """Raise EmbeddingError for two that are written alike."""
    tokens = [each.spec.token for each in embeddings]
    for token in tokens:
        if tokens.count(token) > 1:
            raise EmbeddingError(f"two embeddings are written as {token!r:.60}", remedy="Name one of them: FILE:TOKEN")


def _read(path: Path) -> tuple[Mapping[str, Array], str]:
    """A file's tensors and its SHA-256."""
    if path.suffix.lower() in PICKLES:
        raise EmbeddingError(
            f"{path} is a pickle, which can run any program when it is loaded, so it is not loaded",
            remedy="Put it into a bundle with `pixrt export --embedding FILE --allow-pickle`",
        )
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise EmbeddingError(f"{path} has {path.stat().st_size} bytes, too many for an embedding", remedy=_GIVE)
        tensors, sha256 = TensorFile(path).read()
    except MalformedTensors as error:
        raise EmbeddingError(f"{path} is not a safetensors file: {error}", remedy=_GIVE) from error
    except (OSError, ValueError) as error:
        raise EmbeddingError(f"the embedding {path} cannot be read: {error}", remedy="Check the path") from error
    return tensors, sha256


def _path_and_token(item: Any) -> tuple[Path, str | None]:
    path, token = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(path, str | os.PathLike) or not isinstance(token, str | None):
        raise EmbeddingError(f"an embedding is {item!r:.80}", remedy="Give a file, or a pair of a file and a token")
    return Path(path), token
