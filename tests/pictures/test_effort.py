"""Files that would take far longer to read than their size says."""

import io
import struct
import zlib

import pytest
from PIL import Image

from pixrt.errors import PictureError
from pixrt.pictures.containers import MOST_PARTS
from pixrt.pictures.effort import MOST_SCANS
from pixrt.pictures.images import load_picture, measure_picture


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(chunks: int) -> bytes:
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *[(b"tEXt", b"a\0b")] * chunks, (b"IDAT", zlib.compress(bytes(72))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in parts)


def saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def in_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = saved(Image.new("L", (64, 64)), progressive=True)
    last = whole.rindex(b"\xff\xda")
    before = whole[:last].count(b"\xff\xda")
    return whole[:last] + whole[last:-2] * (count - before) + b"\xff\xd9"


def test_a_file_of_very_many_parts() -> None:
    assert measure_picture(png(1000)) == (8, 8)
    for read in (measure_picture, load_picture):
        with pytest.raises(PictureError, match="has so many parts"):
            read(png(MOST_PARTS))


def test_a_jpeg_of_very_many_markers() -> None:
    whole, comment = saved(Image.new("L", (8, 8))), b"\xff\xfe\x00\x02"
    assert load_picture(whole[:2] + comment * 100 + whole[2:]).rgb.shape == (8, 8, 3)
    with pytest.raises(PictureError, match="has so many parts"):
        measure_picture(whole[:2] + comment * MOST_PARTS + whole[2:])


def test_a_jpeg_of_very_many_fill_bytes() -> None:
    whole = saved(Image.new("L", (8, 8)))
    assert load_picture(whole[:2] + b"\xff" * 50_000_000 + whole[2:]).rgb.shape == (8, 8, 3)


def test_a_jpeg_of_very_many_scans() -> None:
    assert load_picture(in_scans(MOST_SCANS)).rgb.shape == (64, 64, 3)
    with pytest.raises(PictureError, match=f"has {MOST_SCANS + 1} scans"):
        measure_picture(in_scans(MOST_SCANS + 1))
