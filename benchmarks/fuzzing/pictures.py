"""Pictures that are not what they say: mutated files, false sizes, bombs, rare kinds. All follows from a seed."""

import io
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageOps

from figures.pictures import bomb_png

SIZE = (48, 40)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@cache
def files() -> dict[str, bytes]:
    """Whole files by their kind: those that are read, rare ones, and those of other formats."""
    ramp = Image.linear_gradient("L").resize(SIZE)
    colours = Image.merge("RGB", (ramp, ImageOps.mirror(ramp), ImageOps.flip(ramp)))
    clear = colours.copy()
    clear.putalpha(ramp)
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "png": _saved(colours, "PNG"),
        "png grey": _saved(ramp, "PNG"),
        "png grey alpha": _saved(clear.convert("LA"), "PNG"),
        "png alpha": _saved(clear, "PNG"),
        "png palette": _saved(colours.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=3),
        "png one bit": _saved(ramp.convert("1"), "PNG"),
        "png 16 bits": _saved(ramp.convert("I;16"), "PNG"),
        "png 16 bits colour": png(*SIZE, 16, 2, bytes(range(256)) * 46),
        "png interlaced": png(8, 8, 8, 2, bytes(300), interlaced=True),
        "png animated": _saved(colours, "PNG", save_all=True, append_images=[colours.rotate(90)]),
        "png texts": _saved(colours, "PNG") + b"after the end" * 100,
        "png profile": _saved(colours, "PNG", icc_profile=bytes(range(200))),
        "jpeg": _saved(colours, "JPEG"),
        "jpeg grey": _saved(ramp, "JPEG"),
        "jpeg progressive": _saved(colours, "JPEG", progressive=True),
        "jpeg CMYK": _saved(colours.convert("CMYK"), "JPEG"),
        "jpeg turned": _saved(colours, "JPEG", exif=turned.tobytes()),
        "jpeg of two": _saved(colours, "MPO", save_all=True, append_images=[colours]),
        "jpeg EXIF": _saved(colours, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(256)) * 8),
        "webp": _saved(colours, "WEBP"),
        "webp lossless": _saved(clear, "WEBP", lossless=True),
        "webp animated": _saved(colours, "WEBP", save_all=True, append_images=[ramp.convert("RGB")] * 30),
        "avif": _saved(colours, "AVIF"),
        "avif alpha": _saved(clear, "AVIF"),
        "avif animated": _saved(colours, "AVIF", save_all=True, append_images=[ramp.convert("RGB")] * 3),
        "gif": _saved(colours, "GIF"),
        "tiff": _saved(colours, "TIFF"),
        "bmp": _saved(colours, "BMP"),
        "ico": _saved(colours, "ICO"),
        "ppm": _saved(colours, "PPM"),
        "tga": _saved(colours, "TGA"),
        "eps": _saved(colours, "EPS"),
        "pdf": _saved(colours, "PDF"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "html": b"<!DOCTYPE html><html><body>not found</body></html>",
        "pickle": pickle.dumps(print),
        "zip": b"PK\x03\x04" + bytes(200),
        "nothing": b"",
        "one byte": b"\x89",
        "signature": _SIGNATURE,
        "zeros": bytes(5000),
    }


def png(
    width: int,
    height: int,
    bits: int,
    kind: int,
    rows: bytes,
    *,
    interlaced: bool = False,
    before: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of raw rows, whatever its head says."""
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    chunks = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(chunk(*each) for each in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG's chunk with its right length and sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def bombs() -> dict[str, bytes]:
    """Files that say, or become, far more than they are."""
    packed = zlib.compress(bytes(64 << 20), 9)
    jpeg = bytearray(files()["jpeg"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    lossless = bytearray(files()["webp lossless"])
    at = lossless.index(b"VP8L") + 9
    lossless[at : at + 4] = b"\xff\xff\xff\x0f"
    avif = bytearray(files()["avif"])
    at = avif.index(b"ispe") + 8
    avif[at : at + 8] = struct.pack(">II", 60000, 60000)
    return {
        "png 81 megapixels": bomb_png(),
        "png 24.9 megapixels of nothing": png(4990, 4990, 1, 0, bytes(100)),
        "png 4 gigapixels": png(65535, 65535, 8, 2, bytes(100)),
        "png largest": png(0x7FFFFFFF, 0x7FFFFFFF, 16, 6, b""),
        "png thin": png(1, 200_000, 8, 0, bytes(400_000)),
        "png rows for ever": png(100, 100, 8, 2, bytes(256 << 20)),
        "png packed text": png(8, 8, 8, 0, bytes(72), before=[(b"zTXt", b"Comment\0\0" + packed)] * 20),
        "png packed profile": png(8, 8, 8, 2, bytes(200), before=[(b"iCCP", b"profile\0\0" + packed)]),
        "png international text": png(
            8, 8, 8, 0, bytes(72), before=[(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)]
        ),
        "png many chunks": png(8, 8, 8, 0, bytes(72), before=[(b"tEXt", b"a\0b")] * 100_000),
        "png frames for ever": png(8, 8, 8, 0, bytes(72), before=[(b"acTL", struct.pack(">II", 0xFFFFFFF, 0))]),
        "jpeg 4 gigapixels": bytes(jpeg),
        "webp 268 megapixels": bytes(lossless),
        "avif 3.6 gigapixels": bytes(avif),
    }


def mutated(data: bytes, random: random.Random) -> bytes:
    """A file with some of it changed, by one to three of these ways."""
    for _ in range(random.randint(1, 3)):
        data = random.choice(_WAYS)(data, random)
    return data


def spoiled(random: random.Random) -> Iterator[tuple[str, bytes]]:
    """Any number of pictures, most of which are broken, with what they are called."""
    known = files()
    names = list(known)
    readable = [name for name in names if name.split()[0] in ("png", "jpeg", "webp", "avif")]
    while True:
        name = random.choice(readable if random.random() < 0.9 else names)
        yield name, known[name] if random.random() < 0.1 else mutated(known[name], random)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _flip(data: bytes, random: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 20)) if data else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(data: bytes, random: random.Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _take_out(data: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 4, 100)) :]


def _repeat(data: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at : at + 200] * random.choice((2, 50)) + data[at:]


def _insert(data: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 4, 300))) + data[at:]


def _number(data: bytes, random: random.Random) -> bytes:
    """A number somewhere, most of them near the beginning, becomes an extreme one."""
    form = random.choice((">H", "<H", ">I", "<I"))
    length = struct.calcsize(form)
    at = random.randrange(max(1, min(len(data), random.choice((40, 200, 1 << 30)))))
    return data[:at] + struct.pack(form, random.choice(_EXTREMES) % (1 << 8 * length)) + data[at + length :]


def _splice(data: bytes, random: random.Random) -> bytes:
    other = random.choice(list(files().values()))
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _chunks(data: bytes, random: random.Random) -> bytes:
    """A PNG whose chunks have other contents, lengths, kinds or places, and right sums, so that more of it is read."""
    parts: list[tuple[bytes, bytes]] = []
    at = len(_SIGNATURE)
    while data.startswith(_SIGNATURE) and at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not parts:
        return _number(data, random)
    where = random.randrange(len(parts))
    kind, inside = parts[where]
    way = random.randrange(5)
    if way == 0:
        parts[where] = kind, _number(inside, random)
    elif way == 1:
        parts[where] = kind, _flip(inside, random)
    elif way == 2:
        parts[where] = random.choice((b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"cHRM", b"fcTL", b"fdAT", b"zTXt")), inside
    elif way == 3:
        random.shuffle(parts)
    else:
        parts.insert(where, random.choice(parts))
    return _SIGNATURE + b"".join(chunk(*each) for each in parts)


_WAYS: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _flip, _cut, _take_out, _repeat, _insert, _number, _number, _splice, _chunks, _chunks,
)  # fmt: skip
