"""The file formats of pictures, in one place. Pillow is imported when needed. Must not import a backend."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

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
READABLE_FORMATS = tuple(name.upper() for name in MEDIA_TYPES)


def media_type_of(data: bytes) -> str:
    """The media type of a picture that pixrt reads, by its first bytes. Raises what Pillow does, for another file."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
        # A phone's JPEG may hold a second picture: Pillow calls it MPO.
        return MEDIA_TYPES.get(str(image.format).lower(), "image/jpeg")


def writable_name(path: Path) -> Path:
    """What a result of the picture at `path` is called: the same, if pixrt can write its format, else a PNG."""
    return path if path.suffix.lower() in SUFFIXES else path.with_suffix(".png")
