"""A checkpoint's tokenizer: what its folder says, its files as a bundle has them, and whether pixrt reads them alike.

Folders hold `vocab.json` and `merges.txt`, which transformers 4 writes, or only `tokenizer.json`, as transformers 5
does. Tokens that were added stand beside the vocabulary, in several spellings. Imports no PyTorch.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pixrt.bundles.manifest import AddedToken, TokenizerSpec
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.errors import BundleError, CheckpointError
from pixrt_export.hub import read_json

VOCAB, MERGES, WHOLE = "vocab.json", "merges.txt", "tokenizer.json"
# What is compared besides the added tokens: capitals, numbers, punctuation, accents, and both special tokens.
_TEXTS = (
    "Make it WINTER, please!",
    "a photo of 12 cats' café; it's 3/4 full... don't-stop (art:1.3)",
    "<|startoftext|>swap  sunflowers with roses<|endoftext|>",
)
_GET = "Get the checkpoint's tokenizer again"


def require_tokenizer(folder: Path, name: str) -> None:
    """Raise CheckpointError unless a folder holds a tokenizer of either form; `name` is the checkpoint's."""
    if not (folder / WHOLE).is_file() or (folder / VOCAB).is_file():
        for file in (VOCAB, MERGES):
            if not (folder / file).is_file():
                raise CheckpointError(f"{name} has no tokenizer/{file}", remedy="Download the whole checkpoint")


def read_spec(folder: Path, positions: int) -> TokenizerSpec:
    """What a folder says of its tokenizer; `positions` is the most tokens that the text encoder takes."""
    config = read_json(folder / "tokenizer_config.json", required=False)
    special = read_json(folder / "special_tokens_map.json", required=False)

    def token(name: str, default: str) -> str:
        value = special.get(name) or config.get(name) or default
        return str(value["content"] if isinstance(value, dict) else value)

    named = {
        "bos_token": token("bos_token", "<|startoftext|>"),
        "eos_token": token("eos_token", "<|endoftext|>"),
        "unk_token": token("unk_token", "<|endoftext|>"),
        "pad_token": token("pad_token", "<|endoftext|>"),
    }
    found = {each.content: each for each in _added(folder, config, special)}
    return TokenizerSpec(
        vocab=VOCAB,
        merges=MERGES,
        max_length=min(int(config.get("model_max_length", 77)), positions),
        **named,
        added=tuple(each for content, each in found.items() if content not in named.values()),
    )


def write_files(folder: Path, target: Path) -> None:
    """Put `vocab.json` and `merges.txt` into `target`: those of the folder, or what its `tokenizer.json` holds."""
    if (folder / VOCAB).is_file():
        for name in (VOCAB, MERGES):
            shutil.copyfile(folder / name, target / name)
        return
    model = read_json(folder / WHOLE).get("model")
    try:
        assert isinstance(model, dict)
        pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        vocabulary = dict(model["vocab"])
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder.name}/{WHOLE} holds no byte-pair vocabulary", remedy=_GET) from error
    (target / VOCAB).write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (target / MERGES).write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8", newline="\n")


def check_tokenizer(folder: Path, written: Path, spec: TokenizerSpec, rows: int) -> None:
    """Compare the ids of the tokenizer in `written` with those of the checkpoint's own, which the Hugging Face
    libraries open, on texts that hold every added token; `rows` are the embeddings that the text encoder has.

    Raises CheckpointError.
    """
    try:
        ours = Tokenizer(written, spec)
    except BundleError as error:
        raise CheckpointError(error.problem, remedy=_GET) from error
    highest = max([*read_json(written / VOCAB).values(), *(each for token in spec.added for each in token.ids)])
    if highest >= rows:
        raise CheckpointError(
            f"the tokenizer has ids up to {highest}, the text encoder {rows} embeddings",
            remedy="Check that the parts belong together",
        )
    theirs = _opened(folder)
    for text in _probe(spec.added):
        expected, found = theirs(text), ours.ids(text)
        if expected != found:
            at = next((n for n, pair in enumerate(zip(expected, found, strict=False)) if len({*pair}) > 1), len(found))
            raise CheckpointError(
                f"the tokenizer gives {text!r:.80} the ids {expected[: at + 2]}, and pixrt would give it"
                f" {found[: at + 2]}",
                remedy="Use a checkpoint with CLIP's tokenizer, or report this one",
            )


def _added(folder: Path, config: Mapping[str, Any], special: Mapping[str, Any]) -> Iterator[AddedToken]:
    """The added tokens in all the spellings that there are; a later one of the same text says more."""
    for content, id_ in read_json(folder / "added_tokens.json", required=False).items():
        yield AddedToken(content, (int(id_),))
    if not (folder / VOCAB).is_file():
        for entry in read_json(folder / WHOLE).get("added_tokens") or ():
            yield _token(entry, int(entry["id"]), fast=True)
        return
    listed = [*(config.get("additional_special_tokens") or ()), *(special.get("additional_special_tokens") or ())]
    if listed:
        vocabulary = read_json(folder / VOCAB)
        entries = [each if isinstance(each, dict) else {"content": each} for each in listed]
        yield from (_token(each, int(vocabulary[each["content"]])) for each in entries if each["content"] in vocabulary)
    for id_, entry in (config.get("added_tokens_decoder") or {}).items():
        yield _token(entry, int(id_))


def _token(entry: Mapping[str, Any], id_: int, *, fast: bool = False) -> AddedToken:
    """One as transformers writes it; `fast`: as the tokenizers library, which writes the same, finds it."""
    return AddedToken(
        content=str(entry["content"]),
        ids=(id_,),
        strip_left=bool(entry.get("lstrip")),
        strip_right=bool(entry.get("rstrip")),
        between="anything" if not entry.get("single_word") else "words" if fast else "spaces",
        any_case=fast and bool(entry.get("normalized")),
    )


def _opened(folder: Path) -> Any:
    """The checkpoint's tokenizer as a function of a text, opened by the library that writes such folders."""
    try:
        if (folder / VOCAB).is_file():
            import transformers

            own = transformers.CLIPTokenizer.from_pretrained(folder)
            return lambda text: own(text, add_special_tokens=False, verbose=False).input_ids
        from tokenizers import Tokenizer as Fast

        whole = Fast.from_file(str(folder / WHOLE))
        return lambda text: whole.encode(text, add_special_tokens=False).ids
    except Exception as error:  # the libraries raise many unrelated types on files of strangers
        raise CheckpointError(f"the tokenizer cannot be opened: {str(error).strip()[:200]}", remedy=_GET) from error


def _probe(added: Iterable[AddedToken]) -> Iterator[str]:
    """Texts with every added token: by itself, between words, inside of one, and twice in a row."""
    yield from _TEXTS
    for token in added:
        yield f"{token.content} a photo of {token.content}, x{token.content}y {token.content}{token.content}"
