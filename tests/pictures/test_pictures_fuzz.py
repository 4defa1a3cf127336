"""Forty thousand pictures with something wrong: each is read, or refused by a PictureError, in bounded memory."""

import io
import logging
import random
import resource
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_facts import photograph

from pixrt.errors import PictureError
from pixrt.pictures.codecs import read_parameters
from pixrt.pictures.formats import readable_formats
from pixrt.pictures.images import load_picture, measure_picture

COUNT = 40_000
MOST_GROWTH_BYTES = 64 << 20
SMOOTH = Image.linear_gradient("L").resize((48, 32))


def saved(mode: str, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    SMOOTH.convert(mode).save(file, format, **options)
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    profile = b"\0" * 36 + b"acsp" + bytes(200)
    files = {
        "png": saved("RGB", "PNG"),
        "png, palette": saved("P", "PNG", transparency=3),
        "png, interlaced grey": saved("LA", "PNG"),
        "jpeg": saved("RGB", "JPEG", icc_profile=profile),
        "jpeg, progressive": saved("L", "JPEG", progressive=True),
        "jpeg, cmyk": saved("CMYK", "JPEG"),
        "webp": saved("RGB", "WEBP"),
        "webp, lossless": saved("RGBA", "WEBP", lossless=True),
        "avif": saved("RGB", "AVIF"),
        "gif": saved("P", "GIF"),
        "bmp": saved("RGB", "BMP"),
        "tiff": saved("RGB", "TIFF"),
        "tiff, packed": saved("L", "TIFF", compression="tiff_lzw"),
        **{f"{format}, photograph": photograph(format) for format in ("JPEG", "PNG", "WEBP")},
    }
    if "HEIF" in readable_formats():
        files["heic"] = saved("RGB", "HEIF")
    return files


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at : at + chance.choice((1, 2, 4))] = chance.choice(
        (b"\0", b"\xff", b"\x7f\xff", b"\xff\xff\xff\xff", b"\x80")
    )


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _leave_out(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice((1, 2, 4, 16, 64))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    part = data[at : at + chance.choice((1, 4, 16, 64))]
    data[at:at] = part * chance.choice((1, 2, 50))


def _insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.choice((1, 4, 64)))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _set, _cut, _leave_out, _repeat, _insert)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One to three things wrong, more often near the beginning, where everything is said."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not changed:
            break
        if chance.random() < 0.5 and len(changed) > 200:
            head = changed[:200]
            chance.choice(MUTATIONS)(head, chance)
            changed[:200] = head
        else:
            chance.choice(MUTATIONS)(changed, chance)
    return bytes(changed)


def read(data: bytes) -> bool:
    """Whether it is a picture; anything but a PictureError is raised."""
    refusal: PictureError | None = None
    try:
        size = measure_picture(data)
        picture = load_picture(data)
    except PictureError as error:
        refusal = error
    if refusal is not None:
        assert refusal.remedy
        assert len(str(refusal)) < 600
        assert "\n" not in str(refusal)
        return False
    assert picture.rgb.shape == (*size[::-1], 3)
    assert picture.rgb.dtype == np.uint8
    return True


def held() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * resource.getpagesize() if pages.exists() else 0


@pytest.mark.slow
def test_mutated_pictures() -> None:
    chance, files = random.Random(17), seeds()
    each = COUNT // len(files) + 1
    before, whole = 0, dict.fromkeys(files, 0)
    logging.disable(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        for number in range(each):
            for name, data in files.items():
                odd = mutated(data, chance)
                whole[name] += read(odd)
                with pytest.raises(PictureError):
                    read_parameters(odd)
            if number == each // 4:
                before = held()
    assert held() - before < MOST_GROWTH_BYTES
    assert all(0 < count < each for count in whole.values())


def test_what_is_mutated_is_read() -> None:
    for name, data in seeds().items():
        assert read(data), name
