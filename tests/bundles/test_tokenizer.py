"""Token ids against transformers' CLIPTokenizer, on texts chosen to differ."""

import json
import random
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from pixrt.bundles.manifest import AddedToken, TokenizerSpec
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.errors import BundleError

FILES = Path(__file__).parent.parent / "data" / "shapes_checkpoint" / "tokenizer"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"

HOSTILE = [
    "",
    " ",
    "\n\t\r ",
    "make it winter",
    "Make The CIRCLE Red!!!",
    "don't we'll I'VE you're he'd 'Tis it'S",
    "a" * 10_000,
    "word " * 2_000,
    "🙂🙃👩‍👩‍👧‍👦🇩🇪",
    "把圆变成红色 とても美しい 한국어 텍스트",
    "𠀀𪜀豈",
    "\x00\x01\x02abc\x7f\x80\x9f\u200b\u200d\ufeff",
    "\ud800 lone surrogate",
    "e\u0301 é E\u0301 É ẛ̣ ﬁ ﬃ ǅ",
    "ΑΣ ΟΔΟΣ. İstanbul ß ẞ",
    "'ſ Kelvin K Å",
    "²³¹ ½ ٣ ४ Ⅷ ①",
    "…—–‘’“”«»¡¿",
    "a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg\u00a0h\u3000i",
    f"{BOS} hello {EOS}",
    f"x{EOS}y{BOS}{EOS}z",
    "<|StartOfText|> <|ENDOFTEXT|>",
    "!!<|startoftext|>!! <|endoftext|",
    "<|endoftext|>" * 100,
    "</w> <w> a</w>b",
    "http://example.com/?q=1&r=%20#x",
    "1234567890 12.5% $3,000",
    "\U0001f9d1\u200d\U0001f680 \U000e0001 \U0010ffff",
    "\ufffd replacement",
    "العربية עברית हिन्दी ไทย",
    "zalgo: Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "tab\tnew\nline\r\nend",
    "🙂" * 5_000,
    "中" * 10_000,
]


def fuzz(count: int) -> list[str]:
    """Random strings over all of Unicode and over pieces of the tokens themselves."""
    generator = random.Random(0)
    pieces = [BOS, EOS, "<|", "|>", "'s", "'LL", " ", "é", "e\u0301", "!", "中", "🙂", "a", "Z", "9", "\u0345", "ß"]
    made = []
    for number in range(count):
        if number % 2:
            made.append("".join(generator.choices(pieces, k=generator.randint(1, 30))))
        else:
            codes = [generator.choice([0x7F, 0x2FF, 0xFFFF, 0x10FFFF]) for _ in range(generator.randint(1, 40))]
            characters = (chr(generator.randint(0, top)) for top in codes)
            # The two libraries carry different versions of Unicode: what either does not know yet is left out.
            made.append("".join(c for c in characters if unicodedata.category(c) != "Cn"))
    return made


def spec(**changes: Any) -> TokenizerSpec:
    given = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS} | changes
    return TokenizerSpec(vocab="vocab.json", merges="merges.txt", max_length=77, **given)


@pytest.mark.torch
@pytest.mark.parametrize("pad", [EOS, "!"], ids=["sd1", "sd2"])
def test_ids_are_those_of_transformers(pad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    # ftfy, where installed, changes what CLIPTokenizer does; transformers and diffusers do without it.
    monkeypatch.setitem(sys.modules, "ftfy", None)
    theirs = transformers.CLIPTokenizer(
        str(FILES / "vocab.json"), str(FILES / "merges.txt"), pad_token=pad, model_max_length=77
    )
    ours = Tokenizer(FILES, spec(pad_token=pad))
    for text in HOSTILE + fuzz(3000):
        expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
        whole = theirs(text, add_special_tokens=False, verbose=False).input_ids
        tokens = ours.encode(text)
        assert list(tokens.ids) == expected, ascii(text[:80])
        assert tokens.dropped == max(0, len(whole) - 75), ascii(text[:80])


@pytest.mark.torch
def test_added_tokens_are_found_as_transformers_finds_them() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer(str(FILES / "vocab.json"), str(FILES / "merges.txt"))
    ways = {
        **{"<sks>": {}, "<sks>_1": {}, "zwx": {"single_word": True}, "<l>": {"lstrip": True}, "<r>": {"rstrip": True}},
        **{"Ünï côde": {}, "<w>": {"single_word": True, "lstrip": True, "rstrip": True}},
    }
    theirs.add_tokens([transformers.AddedToken(text, normalized=True, **how) for text, how in ways.items()])
    added = [
        AddedToken(
            text,
            (theirs.convert_tokens_to_ids(text),),
            strip_left=how.get("lstrip", False),
            strip_right=how.get("rstrip", False),
            between="spaces" if how.get("single_word") else "anything",
        )
        for text, how in ways.items()
    ]
    ours = Tokenizer(FILES, spec(added=tuple(added)))
    assert ours.ids("a photo of <sks>") == [320, 1125, 539, 49408]
    generator = random.Random(0)
    pieces = [*ways, EOS, " ", "  ", "a", "photo", "!", "É", "<", "zw"]
    for _ in range(3000):
        text = "".join(generator.choices(pieces, k=generator.randint(1, 8)))
        assert ours.ids(text) == theirs(text, add_special_tokens=False).input_ids, text


def test_given_tokens_of_several_ids_in_any_case() -> None:
    given = [AddedToken("<Cat-Toy>", (-1, -2, -3), any_case=True)]
    ids = Tokenizer(FILES, spec(), given).encode("a <cat-TOY>!").ids
    assert ids[:7] == (49406, 320, -1, -2, -3, 256, 49407)
    # Letters that are one only to those who ignore case.
    assert Tokenizer(FILES, spec(), [AddedToken("<sks>", (-1,), any_case=True)]).ids("<\u017fk\u017f>") == [-1]


def test_known_ids() -> None:
    """From OpenAI's CLIP: "a diagram" and the special tokens."""
    ids = Tokenizer(FILES, spec()).encode("a diagram").ids
    assert ids[:4] == (49406, 320, 22697, 49407)
    assert ids[4:] == (49407,) * 73


def test_truncation_is_counted() -> None:
    tokenizer = Tokenizer(FILES, spec())
    assert tokenizer.encode("word " * 75).dropped == 0
    tokens = tokenizer.encode("word " * 80)
    assert tokens.dropped == 5
    assert len(tokens.ids) == 77
    assert tokens.ids[-1] == 49407


@pytest.mark.parametrize("broken", ["{", "[]", "{}", json.dumps({"a": 0})])
def test_broken_files(tmp_path: Path, broken: str) -> None:
    shutil.copy(FILES / "merges.txt", tmp_path)
    (tmp_path / "vocab.json").write_text(broken)
    with pytest.raises(BundleError):
        Tokenizer(tmp_path, spec())
