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

from pixrt.errors import OptionError, OutputError, PictureError, PictureTooLarge, PictureUnreadable
from pixrt.files import atomic_write
from pixrt.pictures.geometry import check_size
from pixrt.pictures.metadata import exif_bytes, parameters_text, png_info

if TYPE_CHECKING:
    from PIL import Image

# No other decoder is given bytes: the fewer, the fewer ways to be surprised by a file.
READABLE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif")
_WHITE = 255


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
    except Exception as error:  # decoders raise many unrelated types on broken files
        raise broken_picture(name, error) from error
    with image:
        check_size(*image.size, name)
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


def save_picture(image: "Image.Image", path: Path, *, parameters: str, quality: int) -> None:
    """Write a picture with its parameters inside, whole or not at all. `quality`, 1 to 100, is for all but PNG.

    Raises OptionError for another quality, OutputError for a suffix that pixrt does not write, and if the file
    system refuses.
    """
    if not (isinstance(quality, int) and 1 <= quality <= 100):
        raise OptionError(f"quality is {quality!r}", remedy="It must be from 1 to 100")
    suffix = path.suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise OutputError(f"{path} has the suffix {suffix!r}", remedy=f"Use one of {', '.join(WRITABLE_SUFFIXES)}")
    if suffix == ".png":
        options: dict[str, Any] = {"format": "PNG", "pnginfo": png_info(parameters), "compress_level": 1}
    else:
        options = {"format": {".webp": "WEBP", ".avif": "AVIF"}.get(suffix, "JPEG"), "quality": quality}
        options["exif"] = exif_bytes(parameters)
    if options["format"] in ("JPEG", "AVIF"):
        options["subsampling"] = "4:4:4"  # an edit's flat colours fray at their edges otherwise
    if options["format"] == "JPEG" and image.mode == "RGBA":
        image = over_white(image)
    encoded = io.BytesIO()
    try:
        image.save(encoded, **options)
    except (KeyError, ValueError, OSError) as error:
        raise OutputError(f"{path} cannot be encoded: {error}", remedy="Write a .png") from error
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())


def writable_name(path: Path) -> Path:
    """What a result of the picture at `path` is called: the same, if pixrt can write its format, else a PNG."""
    return path if path.suffix.lower() in WRITABLE_SUFFIXES else path.with_suffix(".png")


def read_parameters(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The parameters in a picture that pixrt wrote. Raises PictureError if the file is not such a picture."""
    with open_picture(Path(path)) as image:
        try:
            text = parameters_text(image)
        except Exception as error:  # a PNG's text needs its pixels read, and decoders raise many unrelated types
            raise broken_picture(str(path), error) from error
    if text is None:
        raise PictureError(f"{path} holds no parameters of pixrt", remedy="Use a picture that pixrt wrote, unchanged")
    try:
        parameters = json.loads(text)
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict) or "pixrt" not in parameters:
        raise PictureError(
            f"the parameters in {path} cannot be read", remedy="Use a picture that pixrt wrote, unchanged"
        )
    return parameters


def over_white(image: "Image.Image") -> "Image.Image":
    """An RGBA picture without its transparency, over white."""
    from PIL import Image

    ground = Image.new("RGB", image.size, (_WHITE,) * 3)
    ground.paste(image, mask=image.getchannel("A"))
    return ground


def broken_picture(name: str, error: Exception) -> PictureError:
    """What to raise if a decoder failed on a file."""
    return PictureError(f"{name} cannot be decoded: {str(error)[:200] or type(error).__name__}", remedy="Save it again")
