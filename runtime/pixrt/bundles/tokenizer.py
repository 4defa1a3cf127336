"""CLIP's byte-pair tokenizer, with the ids that transformers' CLIPTokenizer gives. Must not import a backend.

Merging pairs is the `tokenizers` library's work; here stands what CLIPTokenizer does around it: cleaning, lower case,
the split into words, special tokens written out in the text.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, pre_tokenizers
from tokenizers.models import BPE

from pixrt.bundles.manifest import AddedToken, TokenizerSpec
from pixrt.errors import BundleError
from pixrt.reading import read_json, read_text, shown

# Words as CLIP splits them (Radford et al. 2021, simple_tokenizer.py), in lower case. There the pattern ignores case,
# by which the long s is an s too, and U+0345, whose capital is a letter, is neither a letter nor none.
_SPECIAL_WORDS = ("<|startoftext|>", "<|endoftext|>")
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'[sſ]|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+"
# The Unicode blocks of CJK ideographs, which count as words of one character.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """`ids` fill the text encoder's length, padding included; `dropped` tokens of the text did not fit."""

    ids: tuple[int, ...]
    dropped: int


class Tokenizer:
    """The tokenizer of a bundle, and tokens that others bring along, whose ids may be below zero.

    Raises BundleError if its files cannot be read or lack the special tokens.
    """

    def __init__(self, folder: Path, spec: TokenizerSpec, given: Sequence[AddedToken] = ()) -> None:
        vocab, merges = _read_vocab(folder / spec.vocab), _read_merges(folder / spec.merges)
        try:
            self._model = BPE(vocab, merges, end_of_word_suffix="</w>", unk_token=spec.unk_token)
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"the tokenizer's files cannot be read: {error}", remedy=_AGAIN) from error
        self._words = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._length = spec.max_length
        self._bos, self._eos, self._pad = (self._id(t) for t in (spec.bos_token, spec.eos_token, spec.pad_token))
        special = dict.fromkeys((spec.bos_token, spec.eos_token, spec.unk_token, spec.pad_token))
        own = [AddedToken(token, (self._id(token),)) for token in special]
        self._added = Added((*own, *spec.added, *given))

    def encode(self, text: str) -> Tokens:
        """The ids of a text, cut and padded to the text encoder's length, 77 for CLIP."""
        ids = self.ids(text)
        room = self._length - 2
        kept = [self._bos, *ids[:room], self._eos]
        return Tokens(
            ids=(*kept, *[self._pad] * (self._length - len(kept))),
            dropped=max(0, len(ids) - room),
        )

    def ids(self, text: str) -> list[int]:
        """The ids of a text, all of them, without what begins, ends or fills it."""
        found: list[int] = []
        for piece in self._added.pieces(text):
            found.extend(piece.ids if isinstance(piece, AddedToken) else self._plain_ids(piece))
        return found

    def _plain_ids(self, text: str) -> Iterator[int]:
        for word, _ in self._words.pre_tokenize_str(_clean(text)):
            if word in _SPECIAL_WORDS:
                yield self._id(word)
            else:
                yield from (token.id for token in self._model.tokenize(word))

    def _id(self, token: str) -> int:
        found = self._model.token_to_id(token)
        if found is None:
            raise BundleError(f"the tokenizer's vocabulary lacks {token!r}", remedy=_AGAIN)
        return int(found)


class Added:
    """Finds added tokens in a text as transformers does, the longest first."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        # Longest first, so that a token that begins like another wins; the group that matched tells which it is.
        self._tokens = sorted(tokens, key=lambda token: len(token.content), reverse=True)
        self._pattern = re.compile("|".join(f"({_pattern(token)})" for token in self._tokens))

    def pieces(self, text: str) -> Iterator[str | AddedToken]:
        """The text in its order: added tokens, and what stands between them."""
        pieces = [piece for piece in self._split(text) if piece]
        for at, token in enumerate(pieces):
            if not isinstance(token, AddedToken):
                continue
            before, after = pieces[at - 1] if at else "", pieces[at + 1] if at + 1 < len(pieces) else ""
            if token.strip_right and isinstance(after, str) and after:
                pieces[at + 1] = after.lstrip()
            if token.strip_left and isinstance(before, str) and before:
                pieces[at - 1] = before.rstrip()
            if token.between == "spaces" and _text(before)[-1:].strip(" "):
                pieces[at - 1 : at + 1] = [_text(pieces[at - 1]) + token.content, ""]
            elif token.between == "spaces" and _text(after)[:1].strip(" "):
                pieces[at : at + 2] = ["", token.content + _text(pieces[at + 1])]
        return (piece for piece in pieces if piece)

    def _split(self, text: str) -> Iterator[str | AddedToken]:
        start = 0
        for match in self._pattern.finditer(text):
            yield text[start : match.start()]
            assert match.lastindex is not None
            yield self._tokens[match.lastindex - 1]
            start = match.end()
        yield text[start:]


def _text(piece: str | AddedToken) -> str:
    return piece.content if isinstance(piece, AddedToken) else piece


def _pattern(token: AddedToken) -> str:
    text = re.escape(token.content)
    text = f"(?i:{text})" if token.any_case else text
    return rf"(?<!\w){text}(?!\w)" if token.between == "words" else text


_AGAIN = "Export the checkpoint again with `pixrt export`"
_MOST_ID = (1 << 31) - 1
_MOST_MERGES_BYTES = 16 << 20


def _refuse(problem: str) -> BundleError:
    return BundleError(f"the tokenizer's files cannot be read: {problem}", remedy=_AGAIN)


def _read_vocab(path: Path) -> dict[str, int]:
    vocab = read_json(path, refuse=_refuse)
    if not isinstance(vocab, dict):
        raise _refuse(f"{shown(path)} is not a JSON object")
    for token, id_ in vocab.items():
        if type(id_) is not int or not 0 <= id_ <= _MOST_ID:
            raise _refuse(f"{shown(path)} gives {token!r:.60} the id {id_!r:.60}")
    return vocab


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """Pairs in the order in which they are merged, one a line; a first line may say the version."""
    merges = []
    lines = read_text(path, _MOST_MERGES_BYTES, _refuse).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        first, _, second = line.removesuffix("\r").partition(" ")
        if line.startswith("#version"):
            continue
        if not first or not second or " " in second:
            raise _refuse(f"line {number} of {shown(path)} is {line!r:.60}, no pair")
        merges.append((first, second))
    return merges


def _clean(text: str) -> str:
    """Lower case, NFC, single spaces; control characters removed, ideographs set apart."""
    spaced = "".join(map(_clean_character, text))
    return " ".join(unicodedata.normalize("NFC", spaced).split()).lower()


def _clean_character(character: str) -> str:
    if character in "\t\n\r":
        return " "
    code = ord(character)
    category = unicodedata.category(character)
    if code == 0xFFFD or category.startswith("C"):
        return ""
    if category == "Zs":
        return " "
    return f" {character} " if any(low <= code <= high for low, high in _IDEOGRAPHS) else character
