"""Picture files: written whole, with an edit's parameters inside, and those read again.

Pillow is imported when the first picture is. Must not import a backend.
"""

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.errors import (
    OptionError,
    OutputError,
    ParametersMissing,
    PictureError,
)
from pixrt.files import atomic_write
from pixrt.pictures.a1111 import read_a1111, write_a1111
from pixrt.pictures.facts import SourceFacts
from pixrt.pictures.formats import MEDIA_TYPES, SUFFIXES, Format
from pixrt.pictures.marking import DEFAULT_MARKING, Marking
from pixrt.pictures.metadata import exif_bytes, parameters_text, png_info
from pixrt.pictures.opening import open_picture
from pixrt.pictures.provenance import SourceType, xmp_packet
from pixrt.pictures.watermark import embed_watermark
from pixrt.reading import Malformed, parse_json

if TYPE_CHECKING:
    from PIL import Image

    from pixrt.pictures.images import PictureSource

_WHITE = 255
_LOSSLESS = 100  # the quality at which a WebP keeps every pixel
_NO_FACTS = SourceFacts()
_UNCHANGED = "Use a picture that pixrt wrote, unchanged"


def encode_picture(
    image: "Image.Image",
    format: Format,
    *,
    parameters: str,
    made: SourceType,
    quality: int = 95,
    marking: Marking = DEFAULT_MARKING,
    source: "PictureSource | None" = None,
    facts: SourceFacts = _NO_FACTS,
) -> bytes:
    """A picture as a file's bytes: its parameters inside, what `marking` says, and what is kept of its source.

    Args:
        image: RGB or RGBA; a JPEG has what is transparent over white.
        format: one of `MEDIA_TYPES`.
        parameters: JSON, for `read_parameters`.
        made: how the picture came about.
        quality: 1 to 100, for all but PNG; a WebP of 100 has the picture's very pixels.
        source: what an edit began with; only a signature needs it, and only a file (its path or its bytes) has a hash
            that others can check.
        facts: what the picture that it was made from says of itself.

    Raises OptionError for another format or quality; OutputError if the picture does not fit the format, or cannot be
    marked.
    """
    if format not in MEDIA_TYPES:
        raise OptionError(
            f"format is {format!r:.60}", remedy=f"Choose one of {', '.join(MEDIA_TYPES)}", option="format"
        )
    if not (isinstance(quality, int) and 1 <= quality <= 100):
        raise OptionError(f"quality is {quality!r}", remedy="It must be from 1 to 100", option="quality")
    xmp = xmp_packet(made) if marking.mark and marking.metadata else ""
    said, kept = parameters if marking.metadata else "", facts if marking.source_metadata else _NO_FACTS
    options: dict[str, Any] = dict(kept.resolution)
    if format == "png":
        options |= {"pnginfo": png_info(said, _as_a1111(said, image.size), xmp), "compress_level": 1}
        exif = exif_bytes("", kept)
    else:
        options |= {"quality": quality, **({"xmp": xmp.encode()} if xmp else {})}
        exif = exif_bytes(said, kept)
    if exif:
        options["exif"] = exif
    if format == "webp" and quality == _LOSSLESS:
        options |= {"lossless": True, "exact": True}
    if format in ("jpeg", "avif"):
        options["subsampling"] = "4:4:4"  # an edit's flat colours fray at their edges otherwise
    if format == "jpeg" and image.mode == "RGBA":
        image = over_white(image)
    if marking.watermark:
        image = embed_watermark(image)
    encoded = io.BytesIO()
    try:
        image.save(encoded, format, **options)
    except (KeyError, ValueError, OSError) as error:
        raise OutputError(f"the picture cannot be encoded as {format}: {error}", remedy="Choose png") from error
    if marking.signer is None:
        return encoded.getvalue()
    return marking.signer.sign(encoded.getvalue(), MEDIA_TYPES[format], _file_bytes(source), made)


def _as_a1111(parameters: str, size: tuple[int, int]) -> str:
    return write_a1111(json.loads(parameters), size) if parameters else ""


def format_of(path: Path) -> Format:
    """The format of a file of this name. Raises OutputError for a suffix that pixrt does not write."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"{path} has the suffix {suffix!r}", remedy=f"Use one of {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def save_picture(
    image: "Image.Image",
    path: Path,
    *,
    parameters: str,
    made: SourceType,
    quality: int = 95,
    marking: Marking = DEFAULT_MARKING,
    source: "PictureSource | None" = None,
    facts: SourceFacts = _NO_FACTS,
    overwrite: bool = True,
) -> None:
    """Write what `encode_picture` makes, whole or not at all; the suffix tells the format.

    Raises as `encode_picture` does, and OutputError for a suffix that pixrt does not write, for a file that is there
    and not `overwrite`, and if the file system refuses.
    """
    data = encode_picture(
        image,
        format_of(path),
        parameters=parameters,
        made=made,
        quality=quality,
        marking=marking,
        source=source,
        facts=facts,
    )
    with atomic_write(path, overwrite=overwrite) as file:
        file.write(data)


def _file_bytes(source: "PictureSource | None") -> bytes | None:
    """The file that a source is; None if it is none. Raises OutputError."""
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise OutputError(
            f"{source}, which the signature is to name, cannot be read: {error.strerror}", remedy="Put it back"
        ) from error


def read_parameters(source: str | os.PathLike[str] | bytes) -> dict[str, Any]:
    """The parameters in a picture that pixrt or AUTOMATIC1111 wrote: a path, or a file's bytes.

    Those of the latter are in pixrt's words, not checked; what has no meaning here is under "a1111". Raises
    ParametersMissing if the picture has none, PictureError if it or they cannot be read.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    with open_picture(source if isinstance(source, bytes) else Path(source)) as opened:
        text = parameters_text(opened)
    if text is None:
        raise ParametersMissing(f"{name} holds no parameters of pixrt", remedy=_UNCHANGED)
    parameters = _parsed(text) or read_a1111(text)
    if parameters is None:
        raise PictureError(f"the parameters in {name} cannot be read", remedy=_UNCHANGED)
    return parameters


def _parsed(text: str) -> dict[str, Any] | None:
    """What pixrt wrote; None if it is something else."""
    try:
        parameters = parse_json(text)
    except Malformed:
        return None
    return parameters if isinstance(parameters, dict) and "pixrt" in parameters else None


def over_white(image: "Image.Image") -> "Image.Image":
    """An RGBA picture without its transparency, over white."""
    from PIL import Image

    ground = Image.new("RGB", image.size, (_WHITE,) * 3)
    ground.paste(image, mask=image.getchannel("A"))
    return ground
