"""PNG and JPEG files without what an edit does not need, so that no odd metadata makes a picture unreadable.

The pixels and what decides how they look are passed on to the decoder; of the rest only what is used is kept, and only
if it is whole: so do lenient readers (PNG, 3rd edition, 13.2 "Error checking"; JPEG, ITU T.81, B.1). Missing pixels
stay missing: the decoder refuses them. Must not import a backend.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from pixrt.errors import PictureError

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# More parts than these are nobody's metadata: each is looked at in Python.
MOST_PARTS = 50_000
MOST_PROFILE_BYTES = 16 << 20  # of an ICC profile; those of printers have some 3 MiB
_MOST_NAME = 79  # bytes of a PNG keyword

Texts: TypeAlias = dict[str, bytes]


@dataclass(slots=True)
class Contained:
    """A picture's file as its decoder gets it, and what was taken out of it.

    Attributes:
        data: the file's bytes.
        exif: an EXIF block as TIFF, from its byte order on; b"" if there is none.
        icc: an ICC profile; b"" if there is none.
        xmp: an XMP packet; b"" if there is none.
        density: pixels per metre, across and down; None if it is not said.
        texts: a PNG's text chunks as they stand, by keyword, without it; see `text_of`.
        frames: more than 1 if it is an animation.
        open_end: whether it is a JPEG without its end marker: see `with_ends`.
        is_taken_apart: whether it is a PNG or a JPEG; of other files nothing is taken out.
    """

    data: bytes
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    density: tuple[float, float] | None = None
    texts: Texts = field(default_factory=dict)
    frames: int = 1
    open_end: bool = False
    is_taken_apart: bool = True


def contained(data: bytes) -> Contained:
    """What a file holds. Another format's is passed on as it is. Raises PictureError."""
    if data.startswith(_PNG):
        return _png(data)
    return _jpeg(data) if data.startswith(_JPEG) else Contained(data, is_taken_apart=False)


# PNG: chunks of a length, a type, data, and a checksum. Types with a small first letter are ancillary.

_TRANSPARENCY_BYTES = {0: (2,), 2: (6,), 3: range(1, 257)}  # by colour type
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_RAW_EXIF, _XMP = "Raw profile type exif", "XML:com.adobe.xmp"
_INCH = 0.0254


def _png(data: bytes) -> Contained:
    kept, texts = [data[: len(_PNG)]], Texts()
    exif = icc = b""
    density, colour, frames = None, None, 1
    for kind, start, end in _chunks(data):
        body = data[start:end]
        is_whole = len(data) >= end + 4 and zlib.crc32(kind + body) == int.from_bytes(data[end : end + 4], "big")
        if kind[0] & 0x20 == 0:  # critical: broken ones are the decoder's to refuse
            colour = body[9] if kind == b"IHDR" and len(body) == 13 else colour
            kept.append(data[start - 8 : end + 4])
        elif not is_whole:
            continue
        elif kind == b"tRNS" and len(body) in _TRANSPARENCY_BYTES.get(colour or 0, ()):
            kept.append(data[start - 8 : end + 4])
        elif kind == b"acTL" and len(body) == 8:
            frames = int.from_bytes(body[:4], "big")
        elif kind == b"iCCP":
            icc = icc or _profile(body)
        elif kind == b"eXIf":
            exif = exif or _tiff(body)
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
            across, down = struct.unpack(">II", body[:8])
            density = (float(across), float(down)) if across and down else None
        elif kind in _TEXTS:
            key, separator, _ = body.partition(b"\0")
            if separator and 1 <= len(key) <= _MOST_NAME:
                texts.setdefault(key.decode("latin-1"), kind + body[len(key) + 1 :])
    exif = exif or _raw_exif(text_of(texts.get(_RAW_EXIF, b""), MOST_PROFILE_BYTES))
    xmp = text_of(texts.get(_XMP, b""), MOST_PROFILE_BYTES) or ""
    return Contained(b"".join(kept), exif, icc, xmp.encode(), density, texts, frames)


def _raw_exif(text: str | None) -> bytes:
    """ImageMagick's way to put EXIF into a text: a name, a length, and hexadecimal digits, on lines of their own."""
    try:
        return _tiff(bytes.fromhex("".join((text or "").split("\n")[3:])))
    except ValueError:
        return b""


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """A PNG's chunks up to its end: type, and where their data begin and end, which may be beyond the file."""
    at = len(_PNG)
    for _ in range(MOST_PARTS):
        if at + 8 > len(data):
            return
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    raise _too_many("chunks")


def _profile(body: bytes) -> bytes:
    """The profile of an iCCP chunk; b"" for one that is broken or larger than any."""
    name, _, packed = body.partition(b"\0")
    if not 1 <= len(name) <= _MOST_NAME or packed[:1] != b"\0":
        return b""
    return unpacked(packed[1:], MOST_PROFILE_BYTES) or b""


def unpacked(packed: bytes, most: int) -> bytes | None:
    """What zlib packed, if it is whole and has no more than so many bytes; else None."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(packed, most + 1)
    except zlib.error:
        return None
    return found if stream.eof and len(found) <= most else None


def text_of(chunk: bytes, most: int) -> str | None:
    """The text of one of `Contained.texts`; None if it is none, or broken, or has more than so many bytes."""
    kind, body = chunk[:4], chunk[4:]
    if kind not in _TEXTS:
        return None
    if kind == b"iTXt":
        flags, body = body[:2], body[2:]
        _, first, body = body.partition(b"\0")  # the language
        _, second, body = body.partition(b"\0")  # the keyword, translated
        if len(flags) < 2 or not first or not second or flags[1]:
            return None
        packed, codec = flags[0] == 1, "utf-8"
    else:
        packed, codec = kind == b"zTXt", "latin-1"
        if packed and body[:1] != b"\0":
            return None
        body = body[1:] if packed else body
    found = unpacked(body, most) if packed else body
    if found is None or len(found) > most:
        return None
    return found.decode(codec, errors="replace")


# JPEG: markers of two bytes, most with a segment of a length; after a scan's header its entropy-coded data.

_EOI, _SOS = 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_EXIF, _ICC, _JPEG_XMP = b"Exif\0\0", b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0"
_JFIF_BYTES, _ADOBE_BYTES = 14, 12
_FILLED = re.compile(rb"\xff+")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # 0 is a byte of 255, D0 to D7 are restarts within the scan


def _jpeg(data: bytes) -> Contained:
    kept, profiles = [_JPEG], dict[int, bytes]()
    exif = xmp = b""
    density, at, ends = None, 2, False
    for _ in range(MOST_PARTS):
        found = _FILLED.search(data, at)
        at = found.end() - 1 if found else len(data)
        if at + 2 > len(data):
            break
        marker = data[at + 1]
        if marker == _EOI:
            ends = True
            break
        if marker == 0 or marker in _ALONE:
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment, whole = data[at + 4 : end], data[at:end]
        if marker == _SOS:
            found = _AFTER_SCAN.search(data, end)
            end = found.start() if found else len(data)
            kept.append(data[at:end])
        elif marker == _APP1 and segment.startswith(_EXIF):
            exif = exif or _tiff(segment[len(_EXIF) :])
        elif marker == _APP1 and segment.startswith(_JPEG_XMP):
            xmp = xmp or segment[len(_JPEG_XMP) :]
        elif marker == _APP2 and segment.startswith(_ICC) and len(segment) > len(_ICC) + 2:
            profiles.setdefault(segment[len(_ICC)], segment[len(_ICC) + 2 :])
        elif marker == _APP0 and segment.startswith(b"JFIF\0") and len(segment) >= _JFIF_BYTES:
            density = _density(segment)
            kept.append(whole)
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= _ADOBE_BYTES:
            kept.append(whole)  # it says what the colours are
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(whole)
        at = max(end, at + 2)
    else:
        raise _too_many("segments")
    icc = b"".join(profiles[number] for number in sorted(profiles))
    if len(icc) > MOST_PROFILE_BYTES:
        icc = b""
    if ends:
        kept.append(b"\xff\xd9")
    return Contained(b"".join(kept), exif, icc, xmp, density, open_end=not ends)


def _density(segment: bytes) -> tuple[float, float] | None:
    """Of a JFIF segment, pixels per metre."""
    unit, across, down = struct.unpack(">BHH", segment[7:12])
    metres = {1: _INCH, 2: 0.01}.get(unit)
    return None if metres is None or not across or not down else (across / metres, down / metres)


def with_ends(data: bytes) -> tuple[bytes, ...]:
    """A JPEG that lacks its end marker, with it, and with bytes before it that mean pixels only if some are missing.

    If all of them are the same picture, its pixels are whole: a decoder reads no further than it needs to. Raises
    PictureError for a progressive one of which whole scans are missing.
    """
    if not _has_all_scans(data):
        raise PictureError("the picture's file ends before its pixels do", remedy="Copy it again")
    data = data.rstrip(b"\xff")  # the first half of a marker, or of a byte of 255
    return tuple(data + filling + b"\xff\xd9" for filling in (b"", b"\x55" * 4096, b"\xaa" * 4096))


def _has_all_scans(data: bytes) -> bool:
    """Whether scans say every bit of every coefficient of every component."""
    components: set[int] = set()
    said: dict[int, set[int]] = {}
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(segment) >= 6:
            components = {segment[6 + 3 * place] for place in range(segment[5]) if 6 + 3 * place < len(segment)}
        elif marker == _SOS and segment:
            count = segment[0]
            first, last, bits = segment[1 + 2 * count : 4 + 2 * count] or (0, 63, 0)
            if bits & 15 == 0:
                for place in range(count):
                    said.setdefault(segment[1 + 2 * place], set()).update(range(first, last + 1))
            found = _AFTER_SCAN.search(data, end)
            end = found.start() if found else len(data)
        at = max(end, at + 2)
    return bool(components) and all(said.get(each, set()) >= set(range(64)) for each in components)


# AVIF: an item of the type Exif in the list of items (ISO 14496-12, ItemInfoEntry, version 2).
_AVIF_EXIF = re.compile(rb"(infe\x02\0\0[\0\x01]..\0\0)Exif", re.DOTALL)


def without_avif_exif(data: bytes) -> bytes:
    """An AVIF's bytes with its EXIF block called something else, so that nobody reads it; other files' as they are."""
    return _AVIF_EXIF.sub(rb"\1skip", data) if data[4:8] == b"ftyp" else data


def _tiff(block: bytes) -> bytes:
    """An EXIF block, if it begins like one; JPEG's own beginning is left out of those that have it."""
    block = block.removeprefix(_EXIF)
    return block if block[:4] in (b"II*\0", b"MM\0*") else b""


def _too_many(parts: str) -> PictureError:
    return PictureError(
        f"the picture's file has so many parts that it is not read: more than {MOST_PARTS} {parts}",
        remedy="Save it again, without its metadata",
    )
