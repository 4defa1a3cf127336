"""Tokenizers as checkpoints bring them: saved by transformers in every form, and read as transformers reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixrt.bundles.tokenizer import Tokenizer
from pixrt.errors import CheckpointError
from pixrt_export.tokenizer import check_tokenizer, read_spec, require_tokenizer, write_files

pytestmark = pytest.mark.torch

PLAIN = Path(__file__).parent.parent / "data" / "shapes_checkpoint" / "tokenizer"
ADDED = ("<sks>", "<strip>", "<one>", "<special>")
TEXTS = ("a photo of <sks> in x<strip>  y", "<sks><one>", "the <special>!", "<SKS> it's winter")


def added(folder: Path, kind: str = "CLIPTokenizer") -> Any:
    """A tokenizer with tokens of every sort, saved by transformers."""
    import transformers

    tokenizer = getattr(transformers, kind).from_pretrained(PLAIN)
    token = transformers.AddedToken
    tokenizer.add_tokens(["<sks>", token("<strip>", lstrip=True, rstrip=True), token("<one>", single_word=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<special>"]})
    tokenizer.save_pretrained(folder)
    return tokenizer


def _older(folder: Path) -> None:
    """As transformers wrote it before 4.34."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("added_tokens_decoder")
    path.write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text(json.dumps(dict(zip(ADDED, range(49408, 49412), strict=True))))
    special = json.loads((folder / "special_tokens_map.json").read_text())
    special.pop("additional_special_tokens")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def _newer(folder: Path) -> None:
    """As transformers 5 writes it: one file, and a config."""
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("added_tokens_decoder")
    path.write_text(json.dumps(config))


FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "transformers 4": ("CLIPTokenizer", lambda folder: None),
    "transformers 4, fast": ("CLIPTokenizerFast", lambda folder: None),
    "older": ("CLIPTokenizer", _older),
    "transformers 5": ("CLIPTokenizerFast", _newer),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_ids_of_its_own_library(form: str, tmp_path: Path) -> None:
    kind, change = FORMS[form]
    theirs = added(tmp_path, kind)
    change(tmp_path)
    require_tokenizer(tmp_path, "it")
    spec, written = read_spec(tmp_path, 77), tmp_path / "bundle"
    written.mkdir()
    write_files(tmp_path, written)
    check_tokenizer(tmp_path, written, spec, 49412)
    ours = Tokenizer(written, spec)
    assert ours.ids("<sks>") == [49408]
    if form != "transformers 5":  # diffusers opens what has a vocabulary by the tokenizer in Python
        import transformers

        theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ours.ids(text) == theirs(text, add_special_tokens=False).input_ids, text


def test_fewer_embeddings_than_ids(tmp_path: Path) -> None:
    added(tmp_path)
    with pytest.raises(CheckpointError, match="ids up to 49411, the text encoder 49408 embeddings"):
        check_tokenizer(tmp_path, tmp_path, read_spec(tmp_path, 77), 49408)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """One that pixrt would not read as its own library does."""
    added(tmp_path, "CLIPTokenizerFast")
    _newer(tmp_path)
    path = tmp_path / "tokenizer.json"
    whole = json.loads(path.read_text())
    whole["normalizer"] = None
    path.write_text(json.dumps(whole))
    (tmp_path / "bundle").mkdir()
    write_files(tmp_path, tmp_path / "bundle")
    with pytest.raises(CheckpointError, match="the tokenizer gives 'Make it WINTER"):
        check_tokenizer(tmp_path, tmp_path / "bundle", read_spec(tmp_path, 77), 49412)


def test_a_whole_tokenizer_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}}))
    with pytest.raises(CheckpointError, match="no byte-pair vocabulary"):
        write_files(tmp_path, tmp_path)
