"""How weights in a text are read, and how it is cut into pieces."""

import pytest

from pixrt import OptionError
from pixrt.bundles.store import open_bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.prompts import Prompt
from pixrt.tasks.prompts import MOST_PIECES, meant_for_others, read_prompt, read_weights

TEXTS = {
    "make it blue": [("make it blue", 1)],
    "": [("", 1)],
    "a (red:1.3) circle": [("a ", 1), ("red", 1.3), (" circle", 1)],
    "(red, big : .5)": [("red, big ", 0.5)],
    "((dark:1.5) blue:2)": [("dark", 3), (" blue", 2)],
    "(a) b [c] ((d))": [("(a) b [c] ((d))", 1)],
    "(a (b) c:2)": [("a (b) c", 2)],
    r"a \(red:1.3\) circle": [("a (red:1.3) circle", 1)],
    "(red:1.3": [("(red:1.3", 1)],
    "red:1.3)": [("red:1.3)", 1)],
    "at 10:30 (or 11:00)": [("at 10:30 ", 1), ("or 11", 0)],
    "a\\b": [("a\\b", 1)],
    "(a:1)": [("a", 1)],
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    bundle = open_bundle("shapes", verify=False)
    return Tokenizer(bundle.folder, bundle.manifest.tokenizers[0])


def read(tokenizer: Tokenizer, text: str, *, weighting: bool = True, long: bool = False) -> Prompt:
    return read_prompt(text, tokenizer, weighting=weighting, long=long)


@pytest.mark.parametrize(("text", "parts"), TEXTS.items())
def test_the_parts_of_a_text(text: str, parts: list[tuple[str, float]]) -> None:
    assert read_weights(text) == parts


@pytest.mark.parametrize("text", ["make it blue", "(a) ((b)) [c]", "word " * 100, "(red:1.3)"])
def test_without_weights_a_text_is_what_the_tokenizer_says(tokenizer: Tokenizer, text: str) -> None:
    prompt, said = read(tokenizer, text, weighting=text != "(red:1.3)"), tokenizer.encode(text)
    ((share, (piece,)),) = prompt.versions
    assert (share, piece.ids, piece.weights, prompt.dropped) == (1, said.ids, (), said.dropped)


def test_long_texts_are_read_to_their_end(tokenizer: Tokenizer) -> None:
    prompt = read(tokenizer, "word " * 100, long=True)
    first, second = prompt.versions[0][1]
    assert (first.ids[0], first.ids[-1], second.ids[0], second.ids[26]) == (49406, 49407, 49406, 49407)
    assert prompt.dropped == 0
    assert read(tokenizer, "word " * (75 * MOST_PIECES + 4), long=True).dropped == 4
    assert prompt.filled(3).versions[0][1][2].ids == prompt.empty


def test_what_weights_may_be(tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionError, match="gives 'red' the weight 1000"):
        read(tokenizer, "(red:1000)")
    with pytest.raises(OptionError, match="17 parts with a weight below 1"):
        read(tokenizer, "(a:0.5) b " * 17)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a <lora:ink:0.8> hill", ["<lora:ink:0.8>"]), ("a BREAK b <lora:x>", ["<lora:x>", "BREAK"]), ("break it", [])],
)
def test_what_is_meant_for_other_programs(text: str, words: list[str]) -> None:
    notes = meant_for_others(text)
    assert len(notes) == len(words)
    assert all(note.startswith(word) for note, word in zip(notes, words, strict=True))
