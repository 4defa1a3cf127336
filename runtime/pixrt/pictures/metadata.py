"""The parameters of an edit inside the picture it made: a PNG text chunk, an EXIF user comment elsewhere.

AUTOMATIC1111's web UI puts its own into the same places, by another key, and in another character code.

Pillow is imported when needed. Must not import a backend.
"""

from typing import TYPE_CHECKING

from pixrt.errors import OutputError
from pixrt.pictures.containers import text_of
from pixrt.pictures.facts import EXIF_IFD, SourceFacts, exif_value, read_exif
from pixrt.pictures.provenance import XMP_KEY

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

    from pixrt.pictures.opening import Opened

PNG_KEY, PNG_KEY_A1111 = "pixrt", "parameters"
_USER_COMMENT, _SOFTWARE = 0x9286, 0x0131
# The character codes of a user comment (EXIF 2.32, table 9); UTF-8 has none, so it goes as undefined.
_ASCII, _UNDEFINED, _UNICODE = b"ASCII\x00\x00\x00", b"\x00" * 8, b"UNICODE\x00"
# A JPEG segment ends at 65,535 bytes; some are left for the frame around the comment.
_MAX_EXIF_BYTES = 65_000
# Pillow unpacks at most 1 MiB of a text chunk: it could not open a picture with more.
_MAX_PNG_BYTES = 1_000_000


def png_info(parameters: str, a1111: str, xmp: str) -> "PngInfo":
    """The chunks for Pillow's `pnginfo`: the parameters, compressed if long, also as A1111 writes them, and XMP.

    What is "" has no chunk. Raises OutputError if the parameters could not be read again.
    """
    from PIL.PngImagePlugin import PngInfo

    length = len(parameters.encode())
    if length > _MAX_PNG_BYTES:
        raise OutputError(
            f"the parameters take {length} bytes, more than the {_MAX_PNG_BYTES} that are read from a PNG",
            remedy="Begin a new session with this picture: its history is too long to be written",
        )
    info = PngInfo()
    if parameters:
        info.add_itxt(PNG_KEY, parameters, zip=len(parameters) > 2000)
    if a1111:
        info.add_text(PNG_KEY_A1111, a1111)
    if xmp:
        info.add_itxt(XMP_KEY, xmp)
    return info


def exif_bytes(parameters: str, facts: SourceFacts) -> bytes:
    """EXIF data with the parameters as user comment, and what is kept of the source; b"" if there is neither.

    Raises OutputError if the parameters are longer than EXIF can be.
    """
    if not parameters and not facts:
        return b""
    from PIL import Image

    text = parameters.encode()
    if len(text) > _MAX_EXIF_BYTES:
        raise OutputError(
            f"the parameters take {len(text)} bytes, more than the {_MAX_EXIF_BYTES} that EXIF can hold",
            remedy="Write a PNG, or shorten the instruction",
        )
    exif = Image.Exif()
    if parameters:
        exif[_SOFTWARE] = "pixrt"
        exif.get_ifd(EXIF_IFD)[_USER_COMMENT] = (_ASCII if text.isascii() else _UNDEFINED) + text
    facts.write(exif)
    return exif.tobytes()


def parameters_text(opened: "Opened") -> str | None:
    """What `png_info`, `exif_bytes` or A1111 put into a picture; None if there is nothing of the kind."""
    for key in (PNG_KEY, PNG_KEY_A1111):
        said = text_of(opened.texts.get(key, b""), _MAX_PNG_BYTES)
        if said is not None:
            return said
    comment = exif_value(read_exif(opened.exif), _USER_COMMENT, EXIF_IFD)
    if not isinstance(comment, bytes):
        return None
    code, text = comment[: len(_ASCII)], comment[len(_ASCII) :]
    if code == _UNICODE:
        return text.decode(_utf_16(text), errors="replace")
    return text.decode(errors="replace") if code in (_ASCII, _UNDEFINED) else None


def _utf_16(text: bytes) -> str:
    """Which one it is: EXIF does not say. A1111 writes big-endian without a mark; most letters have a zero first."""
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    return "utf-16-le" if text[1::2].count(0) > text[::2].count(0) else "utf-16-be"
