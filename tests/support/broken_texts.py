"""Texts as a stranger, a bad disk or a bad program makes them: mutated at random, and the same for the same seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

# Values that hold no place in a file of settings, and of which each has its way of breaking a reader.
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        -(2**63),
        2**64,
        10**39,
        10**400,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "\0",
        "x" * 5000,
        "\ud800",
        "../../etc/passwd",
        "/dev/zero",
        "\x1b[2J",
        "1e999",
        "٣",
        "a\nb",
        "%s{}",
        "<|endoftext|>",
    ),
    *([], [[]], [None], {}, {"": ""}, {"a": {"b": []}}, ["a"] * 500, [0] * 9),
]
PIECES = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"NaN",
        b"-Infinity",
        b"1" * 400,
        b"1e999",
        b"-",
    ),
    *(
        b"[" * 200,
        b"{" * 5000,
        b'{"a":' * 200,
        b"]",
        b"}",
        b'"',
        b"\\",
        b",",
        b":",
        b"\n",
        b"\r\n",
        b"\t",
        b";",
        b"=",
        b".",
    ),
    *(b"null", b"true", b"/*", b"#", b"'", b"[[", b'"""', b"a." * 300, b" " * 1000, b"\xf0\x9f\x98\x80"),
]


def mutated(text: bytes, random: random.Random) -> bytes:
    """One text with a few bytes, pieces or values of it changed."""
    if random.random() < 0.5 and (told := _value(text)) is not None:
        return _written(_mutate_value(told, random), random)
    data = bytearray(text)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at:at] = random.choice(PIECES)
        elif kind == 2:
            del data[at : at + random.choice((1, 2, 8, 100))]
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            end = at + random.randrange(1, 200)
            data[at:at] = data[at:end] * random.choice((1, 2, 20))
        elif kind == 5:
            data[at : at + random.randrange(8)] = random.randbytes(random.randrange(8))
        else:
            end, other = at + random.randrange(1, 50), random.randrange(len(data) + 1)
            data[other:other] = data[at:end]
    return bytes(data)


def mutations(texts: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Mutations of these texts in turn."""
    chosen = random.Random(seed)
    for number in range(count):
        yield mutated(texts[number % len(texts)], chosen)


def _value(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _mutate_value(value: Any, random: random.Random) -> Any:
    for _ in range(random.choice((1, 1, 2, 5))):
        value = _changed(value, random)
    return value


def _changed(value: Any, random: random.Random) -> Any:
    """The value with one place in it, at any depth, changed, lost, doubled or renamed."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return random.choice(ODD)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    if random.random() < 0.7:
        made = value.copy()
        made[key] = _changed(value[key], random)
        return made
    made = value.copy()
    if random.random() < 0.4:
        del made[key]
    elif isinstance(made, dict):
        made[str(random.choice(ODD))[:6000]] = made[key]
    else:
        made.insert(key, random.choice(ODD))
    return made


def _written(value: Any, random: random.Random) -> bytes:
    text = json.dumps(value, ensure_ascii=True, indent=random.choice((None, None, 1)))
    return text.encode()
