"""The file formats of pictures, in one place. Pillow is imported when needed. Must not import a backend."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

Format = Literal["png", "jpeg", "webp", "avif"]
MEDIA_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
}
SUFFIXES: Mapping[str, Format] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}
WRITABLE_SUFFIXES = tuple(SUFFIXES)

# In Pillow's words. No other decoder is given bytes: the fewer, the fewer ways to be surprised by a file.
_READ: Mapping[str, str] = {
    **{name.upper(): media for name, media in MEDIA_TYPES.items()},
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
}
_HEIF = "HEIF"
READABLE_SUFFIXES = (*WRITABLE_SUFFIXES, ".bmp", ".gif", ".heic", ".heif", ".tif", ".tiff")
# Of files that people call pictures and that are not read: a gallery says that it left them out.
OTHER_SUFFIXES = (
    *(".arw", ".cr2", ".cr3", ".dds", ".dng", ".exr", ".hdr", ".ico", ".jfif", ".jp2", ".jpe", ".jxl", ".mpo", ".nef"),
    *(".orf", ".pbm", ".pcx", ".pgm", ".ppm", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".svg", ".tga", ".xcf"),
)
HEIC = "HEIC"
# How other files that people call pictures begin, for words that say what they are.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb"....ftyp(he[iv][cxms]|mif1|msf1)", HEIC),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"8BPS", "a Photoshop document"),
    (rb"gimp xcf", "a GIMP image"),
    (rb"%PDF-", "a PDF"),
    (rb"%!PS", "PostScript"),
    (rb"\x00\x00[\x01\x02]\x00", "an icon or a cursor"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR"),
    (rb"qoif", "QOI"),
    (rb"DDS ", "DDS"),
    (rb"P[1-7]\s", "Netpbm"),
    (rb"FUJIFILMCCD-RAW|IIU\x00|IIRO|IIRS|....ftypcrx ", "a camera's raw file"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg", "SVG"),
    (rb"\s*<(!doctype html|html)", "a web page"),
    (rb"....ftyp(isom|iso[0-9]|mp4[0-9]|qt  |M4V |3gp.|avc1)|\x1aE\xdf\xa3|RIFF....AVI ", "a film"),
    (rb"PK\x03\x04", "an archive or a document"),
)
_HEAD = 1024


def readable_formats() -> tuple[str, ...]:
    """What is read, in Pillow's words; HEIF if pillow-heif is installed."""
    return (*_READ, _HEIF) if _has_heif() else tuple(_READ)


def formats_for(data: bytes) -> tuple[str, ...]:
    """What a file may be opened as: HEIF, whose library takes a while to import, only where it begins like one."""
    return readable_formats() if kind_of(data) == HEIC else tuple(_READ)


@functools.cache
def _has_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


def kind_of(data: bytes) -> str:
    """What a file that is not read is, by its first bytes; "" if it is nothing known."""
    head = data[:_HEAD]
    return next((name for begin, name in _OTHERS if re.match(begin, head, re.DOTALL | re.IGNORECASE)), "")


def media_type_of(data: bytes) -> str:
    """The media type of a picture that pixrt reads, by its first bytes. Raises what Pillow does, for another file."""
    from PIL import Image

    from pixrt.pictures.effort import BoundedFile

    with Image.open(BoundedFile(data), formats=formats_for(data)) as image:
        if image.format == _HEIF:
            return "image/heic"
        # A phone's JPEG may hold a second picture: Pillow calls it MPO.
        return _READ.get(str(image.format).upper(), "image/jpeg")


def readable_suffixes() -> tuple[str, ...]:
    """Of the files that are read here: those of HEIC only if pillow-heif is installed."""
    return tuple(each for each in READABLE_SUFFIXES if _has_heif() or each not in (".heic", ".heif"))


def is_flattened(image: "Image.Image", path: Path) -> bool:
    """Whether a picture loses its transparency in such a file."""
    return image.mode == "RGBA" and SUFFIXES.get(path.suffix.lower()) == "jpeg"


def writable_name(path: Path) -> Path:
    """What a result of the picture at `path` is called: the same, if pixrt can write its format, else a PNG.

    A suffix of another picture's format is replaced; anything else after a dot is a part of the name.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return path
    return (
        path.with_suffix(".png")
        if suffix in (*READABLE_SUFFIXES, *OTHER_SUFFIXES)
        else path.with_name(f"{path.name}.png")
    )
