"""Texts with weights, as A1111 and compel users write them: `a (red:1.3) circle`. Must not import a backend.

Only the explicit form is read: parentheses without a number, `[]` and `((` stand for themselves, so that a plain text
is what it is to diffusers. A backslash before a parenthesis makes it one of the text.
"""

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.prompts import Ids, Piece, Prompt
from pixrt.errors import OptionError

MOST_PIECES = 8  # of a long text: each makes every step's attention longer
MOST_WEIGHT = 10.0
_MOST_BELOW = 16  # parts with a weight below 1: the text encoder runs once more for each
_LEAST = 1e-5  # compel's, for a weight of 0
_PARTS = re.compile(r"\\([()\\])|(\()|:\s*([0-9]*\.?[0-9]+)\s*\)|(\))|[^\\():]+|.", re.DOTALL)

Weighted: TypeAlias = tuple[str, float]


def read_prompt(text: str, tokenizer: Tokenizer, *, weighting: bool, long: bool) -> Prompt:
    """A text's ids and weights; `long` takes as many pieces as it needs. Raises OptionError for wrong weights."""
    fragments = read_weights(text) if weighting else [(text, 1.0)]
    empty = tokenizer.encode("").ids
    parts = [(tuple(tokenizer.ids(words)), weight) for words, weight in fragments]
    most = MOST_PIECES if long else 1
    room = most * (len(empty) - 2)
    below = [index for index, (_, weight) in enumerate(parts) if weight < 1]
    if len(below) > _MOST_BELOW:
        raise OptionError(
            f"the text has {len(below)} parts with a weight below 1, more than {_MOST_BELOW}",
            remedy="Give such weights to fewer, longer parts",
            option="text",
        )
    shares = [1.0, *(math.tan((1 - max(_LEAST, parts[index][1])) * math.pi / 2) for index in below)]
    texts = [parts, *(parts[:index] + parts[index + 1 :] for index in below)]
    versions = [(share / sum(shares), _pieces(each, empty, most)) for share, each in zip(shares, texts, strict=True)]
    dropped = max(0, sum(len(ids) for ids, _ in parts) - room)
    return Prompt(tuple(versions), empty, dropped).filled(max(len(pieces) for _, pieces in versions))


def read_weights(text: str) -> list[Weighted]:
    """The parts of a text in their order, each with its weight: those of parentheses inside others multiply."""
    found: list[tuple[str, float]] = []
    opened: list[int] = []
    for match in _PARTS.finditer(text):
        escaped, opens, weight, closes = match.groups()
        if opens:
            opened.append(len(found))
        elif weight is not None and opened:
            start, factor = opened.pop(), float(weight)
            found[start:] = [(words, each * factor) for words, each in found[start + 1 :]]
            continue
        elif (closes or weight is not None) and opened:
            opened.pop()
        found.append((escaped or match.group(), 1.0))
    merged: list[Weighted] = []
    for words, weight in found:
        if weight > MOST_WEIGHT:
            raise OptionError(
                f"the text gives {words.strip()!r:.60} the weight {weight:g}",
                remedy=f"Weights are from 0 to {MOST_WEIGHT:g}; escape a parenthesis that is none with a backslash",
                option="text",
            )
        if merged and merged[-1][1] == weight:
            merged[-1] = merged[-1][0] + words, weight
        else:
            merged.append((words, weight))
    return merged or [("", 1.0)]


def meant_for_others(text: str) -> tuple[str, ...]:
    """Notes on what A1111 does not read as words, and pixrt does."""
    lora = re.search(r"<lora:([^<>:]{1,60})[^<>]*>", text)
    notes = []
    if lora:
        notes.append(f"{lora.group()[:80]} in the instruction is read as words: give a LoRA with --lora")
    if re.search(r"\bBREAK\b", text):
        notes.append("BREAK in the instruction is read as a word: --long-prompts takes a text of any length")
    return tuple(notes)


def _pieces(parts: Sequence[tuple[Ids, float]], empty: Ids, most: int) -> tuple[Piece, ...]:
    """Ids in runs of the text encoder's length, each with what begins, ends and fills it; from one to `most`."""
    begin, end, *fill = empty
    room = len(fill)
    ids = [each for part, _ in parts for each in part]
    weights = [weight for part, weight in parts for _ in part]
    pieces = []
    for start in range(0, max(1, min(len(ids), most * room)), room):
        kept, given = ids[start : start + room], weights[start : start + room]
        left = fill[: room - len(kept)]
        said = (1.0, *given, 1.0, *(1.0 for _ in left)) if any(weight != 1 for weight in given) else ()
        pieces.append(Piece((begin, *kept, end, *left), said))
    return tuple(pieces)
