"""What schemathesis cannot make up by itself: pictures, and the name of the model. Loaded by schemathesis alone."""

import base64
import struct
import zlib
from typing import Any

import schemathesis
from hypothesis import strategies

MODEL = "pixrt-shapes"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(side: int) -> bytes:
    """A black picture."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(side * (side + 1)))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


PICTURES = [_png(64), _png(40)]
TEXTS = [base64.b64encode(picture).decode() for picture in PICTURES]
schemathesis.openapi.format("binary", strategies.sampled_from(PICTURES))


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """The model of the server, wherever a text is."""
    for name, value in (("model", MODEL), ("version", "1")):
        if isinstance((path_parameters or {}).get(name), str):
            path_parameters[name] = value
    return path_parameters


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """A picture, wherever a text should be one."""
    for name in ("image", "mask", "style", "inputs") if isinstance(body, dict) else ():
        if isinstance(body.get(name), str):
            body[name] = TEXTS[len(body) % 2]
    return body
