"""The parameters of an edit inside the picture it made: a PNG text chunk, an EXIF user comment elsewhere.

Pillow is imported when needed. Must not import a backend.
"""

from typing import TYPE_CHECKING

from pixrt.errors import OutputError
from pixrt.pictures.provenance import XMP_KEY

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

PNG_KEY = "pixrt"
_EXIF_IFD, _USER_COMMENT, _SOFTWARE = 0x8769, 0x9286, 0x0131
# The character codes of a user comment (EXIF 2.32, table 9); UTF-8 has none, so it goes as undefined.
_ASCII, _UNDEFINED = b"ASCII\x00\x00\x00", b"\x00" * 8
# A JPEG segment ends at 65,535 bytes; some are left for the frame around the comment.
_MAX_EXIF_BYTES = 65_000
# Pillow unpacks at most 1 MiB of a text chunk: a picture with more could not be opened again.
_MAX_PNG_BYTES = 1_000_000


def png_info(parameters: str, xmp: str) -> "PngInfo":
    """The chunks for Pillow's `pnginfo`: the parameters, compressed if long, and an XMP packet, if there is one.

    Raises OutputError if the parameters could not be read again.
    """
    from PIL.PngImagePlugin import PngInfo

    length = len(parameters.encode())
    if length > _MAX_PNG_BYTES:
        raise OutputError(
            f"the parameters take {length} bytes, more than the {_MAX_PNG_BYTES} that are read from a PNG",
            remedy="Begin a new session with this picture: its history is too long to be written",
        )
    info = PngInfo()
    info.add_itxt(PNG_KEY, parameters, zip=len(parameters) > 2000)
    if xmp:
        info.add_itxt(XMP_KEY, xmp)
    return info


def exif_bytes(parameters: str) -> bytes:
    """EXIF data with the parameters as user comment. Raises OutputError if they are longer than EXIF can be."""
    from PIL import Image

    text = parameters.encode()
    if len(text) > _MAX_EXIF_BYTES:
        raise OutputError(
            f"the parameters take {len(text)} bytes, more than the {_MAX_EXIF_BYTES} that EXIF can hold",
            remedy="Write a PNG, or shorten the instruction",
        )
    exif = Image.Exif()
    exif[_SOFTWARE] = "pixrt"
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = (_ASCII if text.isascii() else _UNDEFINED) + text
    return exif.tobytes()


def parameters_text(image: "Image.Image") -> str | None:
    """What `png_info` or `exif_bytes` put into a picture; None if there is nothing of the kind."""
    text = getattr(image, "text", {}).get(PNG_KEY) if image.format == "PNG" else None
    if isinstance(text, str):
        return str(text)
    comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if isinstance(comment, bytes) and comment.startswith((_ASCII, _UNDEFINED)):
        return comment[len(_ASCII) :].decode(errors="replace")
    return None
