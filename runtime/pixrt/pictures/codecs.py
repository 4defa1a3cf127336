"""Picture files: opening them without surprises, writing them whole, with an edit's parameters inside.

Pillow is imported when the first picture is. Must not import a backend.
"""

import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.errors import (
    OptionError,
    OutputError,
    ParametersMissing,
    PictureError,
    PictureTooLarge,
    PictureUnreadable,
)
from pixrt.files import atomic_write
from pixrt.pictures.a1111 import read_a1111
from pixrt.pictures.effort import BoundedFile, check_scans
from pixrt.pictures.formats import MEDIA_TYPES, READABLE_FORMATS, SUFFIXES, Format
from pixrt.pictures.geometry import check_size
from pixrt.pictures.marking import DEFAULT_MARKING, Marking
from pixrt.pictures.metadata import exif_bytes, parameters_text, png_info
from pixrt.pictures.provenance import SourceType, xmp_packet
from pixrt.pictures.watermark import embed_watermark

if TYPE_CHECKING:
    from PIL import Image

    from pixrt.pictures.images import PictureSource

_WHITE = 255
_UNCHANGED = "Use a picture that pixrt wrote, unchanged"


@contextmanager
def open_picture(source: Path | io.BytesIO) -> "Iterator[Image.Image]":
    """A file as a PIL image whose pixels are decoded when asked for, its size checked. Raises PictureError."""
    from PIL import Image, UnidentifiedImageError

    name = str(source) if isinstance(source, Path) else "the picture"
    if isinstance(source, Path):
        _require_regular(source)
    try:
        image = Image.open(source, formats=READABLE_FORMATS)
    except FileNotFoundError:
        raise PictureError(f"there is no file {name}", remedy="Check the path") from None
    except IsADirectoryError:
        raise PictureError(f"{name} is a folder", remedy="Give the pictures in it") from None
    except PermissionError:
        raise PictureError(f"{name} cannot be read: no permission", remedy="Change its permissions") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureTooLarge(f"{name} says that it has far more pixels than can be", remedy="Scale it down") from None
    except UnidentifiedImageError:
        raise PictureUnreadable(
            f"{name} is not a picture that can be read", remedy=f"Use one of {', '.join(READABLE_FORMATS)}"
        ) from None
    except PictureError:
        raise
    except Exception as error:  # decoders raise many unrelated types on broken files
        raise broken_picture(name, error) from error
    with image:
        check_size(*image.size, name)
        if isinstance(source, io.BytesIO) and image.format in ("JPEG", "MPO"):
            check_scans(source.getvalue())
        # A phone's JPEG may hold a second picture (MPO); that is not an animation.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            frames = getattr(image, "n_frames", 2)
            raise PictureError(f"{name} is an animation of {frames} frames", remedy="Save one frame as a picture")
        yield image


def _require_regular(path: Path) -> None:
    """A pipe or a device could keep the reader waiting for ever. What is missing or a folder is told by opening it."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise PictureError(f"{path} is not a file but a pipe or a device", remedy="Copy the picture into a file first")


def encode_picture(
    image: "Image.Image",
    format: Format,
    *,
    parameters: str,
    made: SourceType,
    quality: int = 95,
    marking: Marking = DEFAULT_MARKING,
    source: "PictureSource | None" = None,
) -> bytes:
    """A picture as a file's bytes: its parameters inside, and what `marking` says.

    Args:
        image: RGB or RGBA; a JPEG has what is transparent over white.
        format: one of `MEDIA_TYPES`.
        parameters: JSON, for `read_parameters`.
        made: how the picture came about.
        quality: 1 to 100, for all but PNG.
        source: what an edit began with; only a signature needs it, and only a file (its path or its bytes) has a hash
            that others can check.

    Raises OptionError for another format or quality; OutputError if the picture does not fit the format, or cannot be
    marked.
    """
    if format not in MEDIA_TYPES:
        raise OptionError(
            f"format is {format!r:.60}", remedy=f"Choose one of {', '.join(MEDIA_TYPES)}", option="format"
        )
    if not (isinstance(quality, int) and 1 <= quality <= 100):
        raise OptionError(f"quality is {quality!r}", remedy="It must be from 1 to 100", option="quality")
    xmp = xmp_packet(made) if marking.mark else ""
    if format == "png":
        options: dict[str, Any] = {"pnginfo": png_info(parameters, xmp), "compress_level": 1}
    else:
        options = {"quality": quality, "exif": exif_bytes(parameters), **({"xmp": xmp.encode()} if xmp else {})}
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


def save_picture(
    image: "Image.Image",
    path: Path,
    *,
    parameters: str,
    made: SourceType,
    quality: int = 95,
    marking: Marking = DEFAULT_MARKING,
    source: "PictureSource | None" = None,
) -> None:
    """Write what `encode_picture` makes, whole or not at all; the suffix tells the format.

    Raises as `encode_picture` does, and OutputError for a suffix that pixrt does not write, and if the file system
    refuses.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"{path} has the suffix {suffix!r}", remedy=f"Use one of {', '.join(SUFFIXES)}")
    data = encode_picture(
        image,
        SUFFIXES[suffix],
        parameters=parameters,
        made=made,
        quality=quality,
        marking=marking,
        source=source,
    )
    with atomic_write(path) as file:
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
    with open_picture(BoundedFile(source) if isinstance(source, bytes) else Path(source)) as image:
        try:
            text = parameters_text(image)
        except PictureError:
            raise
        except Exception as error:  # a PNG's text needs its pixels read, and decoders raise many unrelated types
            raise broken_picture(name, error) from error
    if text is None:
        raise ParametersMissing(f"{name} holds no parameters of pixrt", remedy=_UNCHANGED)
    parameters = _parsed(text) or read_a1111(text)
    if parameters is None:
        raise PictureError(f"the parameters in {name} cannot be read", remedy=_UNCHANGED)
    return parameters


def _parsed(text: str) -> dict[str, Any] | None:
    """What pixrt wrote; None if it is something else."""
    try:
        parameters = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parameters if isinstance(parameters, dict) and "pixrt" in parameters else None


def over_white(image: "Image.Image") -> "Image.Image":
    """An RGBA picture without its transparency, over white."""
    from PIL import Image

    ground = Image.new("RGB", image.size, (_WHITE,) * 3)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def broken_picture(name: str, error: Exception) -> PictureError:
    """What to raise if a decoder failed on a file."""
    return PictureError(f"{name} cannot be decoded: {str(error)[:200] or type(error).__name__}", remedy="Save it again")
