"""Instructions that a model knows: what a manifest may say of them, and whether a text has a word of theirs.

Must not import anything of pixrt.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

INSTRUCTIONS_NAME = "instructions.json"  # beside a checkpoint's model_index.json
MOST_EXAMPLES, LONGEST_EXAMPLE = 24, 200
MOST_KINDS, MOST_OF_A_KIND, LONGEST_KIND = 128, 64, 60
_WORD = re.compile(r"[^\W\d_]+")


def words_of(text: str) -> set[str]:
    """The words of a text in small letters, a plural as its singular."""
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in _WORD.findall(text.casefold())}


# What instructions for anything are made of: it does not tell one from another.
FILLERS = words_of(
    "a an the this it its and or of to into in on with for from at by as if is be were should like"
    " all up down away out off more less few much very lot bit little far slightly strongly"
    " make turn change convert give take get put add set look remove replace delete erase swap draw paint cover"
    " increase raise reduce lower picture photo photograph image thing everything"
)


def is_unknown(text: str, instructions: Mapping[str, Sequence[str]]) -> bool:
    """Whether a text has words, and none of those that tell these instructions, by kind, from one another."""
    words = words_of(text)
    known = {word for sentences in instructions.values() for each in sentences for word in words_of(each)}
    return bool(words) and words.isdisjoint(known - FILLERS)


def fault_of_examples(examples: Sequence[str]) -> str:
    """What is wrong with examples of instructions; "" if nothing is."""
    if len(examples) > MOST_EXAMPLES:
        return f"there are {len(examples)} examples, more than {MOST_EXAMPLES}"
    for text in examples:
        if not _is_line(text, LONGEST_EXAMPLE):
            return f"the example {text!r:.60} is no line of 1 to {LONGEST_EXAMPLE} characters"
    return ""


def fault_of_instructions(instructions: Mapping[str, Any]) -> str:
    """What is wrong with instructions by kind, each a list of sentences; "" if nothing is."""
    if len(instructions) > MOST_KINDS:
        return f"there are {len(instructions)} kinds of instructions, more than {MOST_KINDS}"
    for kind, sentences in instructions.items():
        if not _is_line(kind, LONGEST_KIND):
            return f"the kind of instructions {kind!r:.60} is no line of 1 to {LONGEST_KIND} characters"
        if not isinstance(sentences, list | tuple) or not 0 < len(sentences) <= MOST_OF_A_KIND:
            return f"the kind of instructions {kind!r} is no list of 1 to {MOST_OF_A_KIND}"
        for text in sentences:
            if not _is_line(text, LONGEST_EXAMPLE):
                return f"the instruction {text!r:.60} is no line of 1 to {LONGEST_EXAMPLE} characters"
    return ""


def _is_line(text: object, longest: int) -> bool:
    return isinstance(text, str) and bool(text.strip()) and text.isprintable() and len(text) <= longest
