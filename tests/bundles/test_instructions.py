"""What a bundle was taught: read strictly, and told from what it was not taught."""

import dataclasses
import json
from typing import Any

import pytest

from pixrt.bundles.instructions import MOST_KINDS, MOST_OF_A_KIND, is_unknown
from pixrt.bundles.manifest import EmbeddingSpec, LoraSpec, parse_manifest
from pixrt.bundles.store import BUILT_IN
from pixrt.errors import BundleError

KNOWN = {"snow": ("make it snow", "cover it in snow"), "turn": ("turn the reds blue", "change red to yellow")}


@pytest.fixture
def value() -> dict[str, Any]:
    return json.loads((BUILT_IN / "shapes" / "manifest.json").read_text())


@pytest.mark.parametrize("text", ["make it snow", "SNOW!", "a (red:1.3) car", "paint the blues", "red", "more snow"])
def test_a_word_that_was_taught(text: str) -> None:
    assert not is_unknown(text, KNOWN)


@pytest.mark.parametrize("text", ["add a castle", "make it", "turn the dog into a cat", "snowman", "雪にして"])
def test_no_word_that_was_taught(text: str) -> None:
    assert is_unknown(text, KNOWN)


@pytest.mark.parametrize("text", ["", "  ", "1.5 + 2!"])
def test_a_text_without_words_is_not_unknown(text: str) -> None:
    assert not is_unknown(text, KNOWN)


def test_a_bundle_may_say_what_it_was_taught(value: dict[str, Any]) -> None:
    manifest = parse_manifest(json.dumps(value), "m")
    assert "remove the circle" in manifest.instructions["remove"]
    assert not any(manifest.is_unknown(text) for text in manifest.examples)
    assert manifest.is_unknown("add a castle")
    assert parse_manifest(manifest.to_json(), "m") == manifest
    del value["instructions"]
    without = parse_manifest(json.dumps(value), "m")
    assert without.instructions == {}
    assert not without.is_unknown("add a castle")
    assert "instructions" not in json.loads(without.to_json())  # an older pixrt reads it


def test_what_was_merged_may_have_taught_others(value: dict[str, Any]) -> None:
    manifest = parse_manifest(json.dumps(value), "m")
    merged: tuple[dict[str, Any], ...] = (
        {"loras": (LoraSpec("castle", "0" * 64, 1.0),)},
        {"embeddings": (EmbeddingSpec("castle", "<castle>", "0" * 64),)},
    )
    for given in merged:
        source = dataclasses.replace(manifest.source, **given)
        assert not dataclasses.replace(manifest, source=source).is_unknown("add a castle")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "instructions is '[]'"),
        ({"snow": "make it snow"}, "instructions.snow is 'make it snow'"),
        ({"snow": [5]}, "instructions.snow[0] is '5', which is not str"),
        ({"snow": []}, f"is no list of 1 to {MOST_OF_A_KIND}"),
        ({"snow": ["x"] * (MOST_OF_A_KIND + 1)}, f"is no list of 1 to {MOST_OF_A_KIND}"),
        ({"snow": [" "]}, "the instruction ' ' is no line"),
        ({"snow": ["x" * 201]}, "of 1 to 200 characters"),
        ({"snow": ["two\nlines"]}, "is no line"),
        ({"snow": ["\x1b[2J"]}, "control character"),
        ({"": ["make it snow"]}, "the kind of instructions '' is no line"),
        ({"x" * 61: ["make it snow"]}, "of 1 to 60 characters"),
        ({str(number): ["x"] for number in range(MOST_KINDS + 1)}, f"more than {MOST_KINDS}"),
    ],
)
def test_what_is_wrong_is_named(value: dict[str, Any], wrong: Any, words: str) -> None:
    value["instructions"] = wrong
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(value), "m")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
