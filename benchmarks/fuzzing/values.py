"""Values that no field expects, as JSON text and as bytes of a form. Everything follows from a seed."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

# A string from the network is never a file name, and never an address.
PATHS = (
    "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "/proc/self/environ", "file:///etc/passwd", "C:\\con",
    "\\\\127.0.0.1\\share", "http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data", "~/.ssh/id_rsa", "-",
    "--help", "|id", "$(id)", "%2e%2e%2fetc", "data:image/png;base64,AAAA", "data:,", "data:text/html;base64,",
    "sftp://x/y", "x.safetensors", "/etc/passwd\0.png", "../x:1.0", "demo:1e999",
)  # fmt: skip
TEXTS = (
    "", " ", "\t\n", "\0", "a\0b", "nan", "inf", "-inf", "1e400", "0x10", "１２", "1_0", "+1", "-0", "²", "9" * 5000,
    "a" * 40_000, "é" * 33_000, "\u202eabc", "\ufeff", "\U0010ffff", "'; DROP TABLE jobs; --",
    "<script>alert(1)</script>", "%s%n%x", "{0.__class__}", "{{7*7}}", "${jndi:ldap://x}", "=", "====", "AAAAAAA",
    "AAAA====", "true", "None", "auto", "x" * 70, "<lora:../x:1>", "<lora:a:b:c>", "<lora:" * 500, "512x512", "0x0",
    "99999x99999", "-1x-1", "1x100000", "8x8x8", "8 x 8", *PATHS,
)  # fmt: skip
_PLAIN: Sequence[Any] = (
    None, True, False, 0, -1, 1, 3, 1.5, -0.0, 1e308, -1e-308, 2**31, 2**63, 2**64, -(2**63), 10**30, [], {}, [[]],
    [None], [0, 1], ["a", "b"], [1.5, "x", None], {"a": {}}, {"": ""}, ["x"] * 300,
    {str(number): number for number in range(300)}, {"width": 8, "height": 8}, {"width": "8", "height": None},
    {"name": "IMAGE"}, [[[[[[1]]]]]],
)  # fmt: skip
# What json.dumps would not write.
_RAW = (
    b"NaN", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"1" * 20_000 + b".5", b'"\\ud800"', b'"\\udfff\\ud800"',
    b'"\\u0000"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'{"a":1,"a":2}', b"truE", b"01", b"1_0", b"'a'", b"[1,]", b"{",
    b"", b'"', b"0x10", b"\xef\xbb\xbf1", b'{"\\ud800": 1}', b'[{"\\udc00": "\\ud800"}]', b"1E400", b"-", b"/* */ 1",
    b"1" + b"0" * 400,
)  # fmt: skip
_MARK = "@@@"


def raw_value(random: random.Random) -> bytes:
    """A value as JSON text, perhaps no JSON at all."""
    way = random.random()
    if way < 0.3:
        return json.dumps(random.choice(_PLAIN)).encode()
    if way < 0.65:
        return json.dumps(random.choice(TEXTS)).encode()
    if way < 0.85:
        return random.choice(_RAW)
    return deep(random)


def deep(random: random.Random) -> bytes:
    """Arrays or objects in one another, about as deep as Python follows them, or far deeper."""
    depth = random.choice((20, random.randrange(100, 1100), random.randrange(100, 1100), 20_000))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")))
    return opening * depth + b"1" + closing * depth


def body(good: Mapping[str, Any], names: Sequence[str], random: random.Random) -> bytes:
    """A JSON object with one to three of its values, or a further one, as no field expects them; or something else."""
    if random.random() < 0.08:
        return random.choice(
            (raw_value(random), json.dumps(good).encode("utf-16"), json.dumps(good).encode()[:-3], b"")
        )
    said: dict[str, Any] = dict(good)
    values = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        name = random.choice((*names, random.choice(TEXTS)) if random.random() < 0.1 else names)
        said[name] = _MARK
        values.append(raw_value(random))
    text = json.dumps(said).encode()
    for value in values:
        text = text.replace(json.dumps(_MARK).encode(), value, 1)
    return text


def form_value(random: random.Random) -> bytes:
    """What a part of a form holds."""
    way = random.random()
    if way < 0.7:
        return random.choice(TEXTS).encode()
    if way < 0.8:
        return random.randbytes(random.choice((1, 100)))
    return raw_value(random)
