"""What a result keeps of the picture that it was made from: its date, its copyright, its resolution; nothing else.

Places, cameras, names and thumbnails stay behind: a result is passed on more widely than a photograph. Pillow is
imported when needed. Must not import a backend.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from pixrt.pictures.opening import Opened

EXIF_IFD = 0x8769
_DATE, _TAKEN, _COPYRIGHT = 0x0132, 0x9003, 0x8298
_ACROSS, _DOWN, _UNIT, _PER_INCH = 0x011A, 0x011B, 0x0128, 2
_INCH = 0.0254
_MOST_COPYRIGHT = 500  # bytes
_DATE_SHAPE = re.compile(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")
_LEAST_DPI, _MOST_DPI = 1.0, 60_000.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """See the module. `date` as EXIF writes it; `copyright` in its bytes; `dpi` across and down, None if not said."""

    date: str = ""
    copyright: bytes = b""
    dpi: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return self != SourceFacts()

    @property
    def resolution(self) -> dict[str, tuple[float, float]]:
        """For Pillow's `save`."""
        return {} if self.dpi is None else {"dpi": self.dpi}

    def write(self, exif: "Image.Exif") -> None:
        """Put them into an EXIF block."""
        if self.date:
            exif[_DATE] = self.date
            exif.get_ifd(EXIF_IFD)[_TAKEN] = self.date
        if self.copyright:
            exif[_COPYRIGHT] = self.copyright
        if self.dpi is not None:
            exif[_ACROSS], exif[_DOWN], exif[_UNIT] = *self.dpi, _PER_INCH


def facts_of(opened: "Opened") -> SourceFacts:
    """What a picture's file says of itself; what is odd is left out."""
    date, copyright, dpi = "", b"", None
    if opened.exif:
        block = read_exif(opened.exif)
        date = _date(exif_value(block, _TAKEN, EXIF_IFD)) or _date(exif_value(block, _DATE))
        copyright = _copyright(exif_value(block, _COPYRIGHT))
        dpi = _dpi(block)
    copyright = copyright or _copyright(_text(opened, "Copyright"))
    if dpi is None and opened.density is not None:
        dpi = _bounded(opened.density[0] * _INCH, opened.density[1] * _INCH)
    return SourceFacts(date, copyright, dpi)


def read_exif(data: bytes) -> "Image.Exif":
    """An EXIF block; an empty one if it is broken."""
    from PIL import Image

    block = Image.Exif()
    try:
        block.load(data)
    except Exception:  # as many unrelated types as decoders raise
        return Image.Exif()
    return block


def exif_value(block: "Image.Exif", tag: int, ifd: int | None = None) -> object:
    """What a block, or one of its directories, says under a tag; None if it says nothing, or that is broken."""
    try:
        return (block if ifd is None else block.get_ifd(ifd)).get(tag)
    except Exception:  # as many unrelated types as decoders raise
        return None


def _date(value: object) -> str:
    text = value.rstrip("\0 ") if isinstance(value, str) else ""
    return text if _DATE_SHAPE.fullmatch(text) and not text.startswith("0000") else ""


def _copyright(value: object) -> bytes:
    """Its bytes: EXIF's texts have no code, and Pillow reads them as Latin-1."""
    try:
        data = value.encode("latin-1") if isinstance(value, str) else b""
    except UnicodeEncodeError:
        data = str(value).encode()
    data = data.strip(b"\0 \t\r\n")
    return data if len(data) <= _MOST_COPYRIGHT and b"\0" not in data else b""


def _text(opened: "Opened", key: str) -> str | None:
    from pixrt.pictures.containers import text_of

    chunk = opened.texts.get(key)
    return None if chunk is None else text_of(chunk, _MOST_COPYRIGHT)


def _dpi(block: "Image.Exif") -> tuple[float, float] | None:
    unit = exif_value(block, _UNIT)
    scale = {_PER_INCH: 1.0, 3: 2.54}.get(unit) if isinstance(unit, int) else None
    try:
        across, down = (float(exif_value(block, tag)) for tag in (_ACROSS, _DOWN))  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return None if scale is None else _bounded(across * scale, down * scale)


def _bounded(across: float, down: float) -> tuple[float, float] | None:
    """Within what files can say; a NaN is not."""
    return (across, down) if all(_LEAST_DPI <= each <= _MOST_DPI for each in (across, down)) else None
