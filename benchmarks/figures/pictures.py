"""Pictures that requests carry, made here so that nothing has to be kept."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

BOMB_SIDE = 9000


@cache
def small_png(side: int = 64) -> bytes:
    """A small picture, some kilobytes: a ramp with noise."""
    generator = np.random.default_rng(1)
    ramp = np.linspace(20, 235, side)
    pixels = ramp[:, None, None] + generator.integers(-20, 21, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@cache
def photo_jpeg(side: int = 512) -> bytes:
    """A JPEG of about the bytes that a photograph of this size has: smooth shapes and some noise."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = (smooth + generator.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


@cache
def bomb_png() -> bytes:
    """A PNG of some 230 KB that decodes to 81 megapixels, 324 MB as Pillow holds them. Nothing here holds them."""
    side = BOMB_SIDE
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = (_chunk(b"IHDR", head), _chunk(b"IDAT", b"".join(_packed_rows(side))), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _packed_rows(side: int) -> Iterator[bytes]:
    packer, row = zlib.compressobj(9), bytes(1 + 3 * side)
    for _ in range(side):
        yield packer.compress(row)
    yield packer.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
