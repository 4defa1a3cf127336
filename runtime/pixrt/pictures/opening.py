"""Opening a picture's file: which formats are read, within bounds, and what of its metadata is used.

Pillow is imported when the first picture is. Must not import a backend.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pixrt.errors import PictureError, PictureTooLarge, PictureUnreadable
from pixrt.pictures.containers import Contained, contained, with_ends, without_avif_exif
from pixrt.pictures.effort import BoundedFile, check_scans
from pixrt.pictures.formats import HEIC, formats_for, kind_of, readable_formats
from pixrt.pictures.geometry import check_size
from pixrt.reading import read_regular, shown

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_LENGTHS = {1: 1, 3: 2, 4: 4}  # bytes of the types that an orientation may have: byte, short, long
_INCH = 0.0254
_MOST_BYTES = 2**31  # more than the largest picture takes that is not compressed
_SAVE_ONE = "Save one of them as a picture"
_FOLDER = "Give the pictures in it, or edit all of them: `pixrt batch FOLDER INSTRUCTION -o RESULTS`"


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture's file with its header read; `load` decodes its pixels.

    Attributes:
        name: what errors call it.
        exif, icc, xmp: as they stand in the file; b"" if they do not.
        density: pixels per metre, across and down; None if it is not said.
        texts: of a PNG: see `Contained`.
        turned: an orientation that holds whatever the metadata says; 0 for none.
    """

    image: "Image.Image"
    name: str
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    density: tuple[float, float] | None = None
    texts: Mapping[str, bytes] = field(default_factory=dict)
    turned: int = 0
    _ends: tuple[bytes, ...] = ()

    @property
    def orientation(self) -> int:
        """EXIF's, or else XMP's, 1 to 8; 1 if it is missing or broken: so do browsers."""
        found = self.turned or _orientation(self.exif)
        said = None if found else _XMP_ORIENTATION.search(self.xmp)
        return found or (int(said[1]) if said else 1)

    def load(self) -> "Image.Image":
        """The picture with its pixels, not turned. Raises PictureError."""
        from PIL import Image

        said = self.image.size
        try:
            self.image.load()
            if self.image.size != said:
                raise PictureError(
                    f"{self.name} says that it is {said[0]} x {said[1]} pixels, and has {self.image.width} x"
                    f" {self.image.height}",
                    remedy="Save it again",
                )
            for data in self._ends:  # the file lacks its end: see `with_ends`
                with Image.open(BoundedFile(data), formats=["JPEG"]) as other:
                    if other.tobytes() != self.image.tobytes():
                        raise PictureError(
                            f"{self.name} ends before its pixels do: some are missing", remedy="Copy it again"
                        )
        except PictureError:
            raise
        except Exception as error:  # decoders raise many unrelated types on broken files
            raise broken_picture(self.name, error) from error
        return self.image


@contextmanager
def open_picture(source: Path | bytes) -> Iterator[Opened]:
    """A file, or its bytes, of a format that is read, its size checked. Raises PictureError."""
    from PIL import Image, UnidentifiedImageError

    name = str(source) if isinstance(source, Path) else "the picture"
    data = _read(source) if isinstance(source, Path) else source
    file = contained(data)
    if file.frames > 1:
        raise PictureError(f"{name} is an animation of {file.frames} frames", remedy=_SAVE_ONE)
    ends: tuple[bytes, ...] = ()
    try:
        if file.open_end:
            file.data, *rest = with_ends(file.data)
            ends = tuple(rest)
        image = _open(file)
        frames = _frames(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureTooLarge(f"{name} says that it has far more pixels than can be", remedy="Scale it down") from None
    except UnidentifiedImageError:
        kind = kind_of(data)
        what = f"{name} is {kind}, which is not read" if kind else f"{name} is not a picture that can be read"
        heif = '`pip install "pixrt[heif]"` reads it; or use' if kind == HEIC else "Use"
        raise PictureUnreadable(what, remedy=f"{heif} one of {', '.join(readable_formats())}") from None
    except PictureError:
        raise
    except Exception as error:  # decoders raise many unrelated types on broken files
        raise broken_picture(name, error) from error
    with image:
        check_size(*image.size, name)
        if image.format == "JPEG":
            check_scans(file.data)
        if frames > 1:
            many = f"a file of {frames} pages" if image.format == "TIFF" else f"an animation of {frames} frames"
            raise PictureError(f"{name} is {many}", remedy=_SAVE_ONE)
        yield Opened(image, name, _ends=ends, **_said(file, image))


def opened_image(image: "Image.Image") -> Opened:
    """An image that a caller has opened, or made."""
    try:
        turned = image.getexif().get(_ORIENTATION_TAG, 1)  # which may have been set by hand
    except Exception:  # as many unrelated types as decoders raise
        turned = 1
    if image.format == "TIFF" or not (isinstance(turned, int) and 1 <= turned <= 8):  # Pillow turns a TIFF by itself
        turned = 1
    return Opened(image, "the picture", turned=turned, **_said(Contained(b"", is_taken_apart=False), image))


def _open(file: Contained) -> "Image.Image":
    from PIL import Image

    formats = formats_for(file.data)
    try:
        return Image.open(BoundedFile(file.data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, PictureError):
        raise
    except Exception:
        bare = without_avif_exif(file.data)  # which Pillow may have to write again while it opens the file
        if bare == file.data:
            raise
        return Image.open(BoundedFile(bare), formats=formats)


def _frames(image: "Image.Image") -> int:
    """How many pictures a file holds; of a TIFF each has to be looked at."""
    return int(getattr(image, "n_frames", 2)) if getattr(image, "is_animated", False) else 1


def _said(file: Contained, image: "Image.Image") -> dict[str, Any]:
    """What a file says beside its pixels. A TIFF has its EXIF outside, and Pillow turns it by itself."""
    if file.is_taken_apart:
        return {
            "exif": file.exif,
            "icc": file.icc,
            "xmp": file.xmp,
            "density": file.density,
            "texts": file.texts,
        }
    info = image.info
    exif, icc, xmp = (_bytes(info.get(name)) for name in ("exif", "icc_profile", "xmp"))
    return {"exif": exif.removeprefix(b"Exif\0\0"), "icc": icc, "xmp": xmp, "density": _density(info.get("dpi"))}


def _bytes(value: object) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, bytes | bytearray) else b""


def _density(dpi: object) -> tuple[float, float] | None:
    try:
        across, down = (float(each) / _INCH for each in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError, ArithmeticError):
        return None
    return (across, down) if across > 0 and down > 0 else None


def _orientation(exif: bytes) -> int:
    """Of an EXIF block's first directory (TIFF 6.0, section 2), whatever else is in it; 0 if it says none."""
    order: Literal["big", "little"] = "big" if exif[:2] == b"MM" else "little"

    def number(at: int, length: int) -> int:
        return int.from_bytes(exif[at : at + length], order)

    first = number(4, 4)
    for entry in range(first + 2, min(first + 2 + 12 * number(first, 2), len(exif) - 11), 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            length = _LENGTHS.get(number(entry + 2, 2), 0)
            value = number(entry + 8, length)
            return value if 1 <= value <= 8 and number(entry + 4, 4) else 0
    return 0


def _read(path: Path) -> bytes:
    """A picture's file. Raises PictureError."""
    if not os.path.lexists(path):
        if str(path).lower().startswith(("http:/", "https:/")):  # pathlib makes one slash of two
            problem = f"{shown(path).replace(':/', '://', 1)} is an address, and pixrt downloads no pictures"
            raise PictureError(problem, remedy="Download it first, and give the file")
        raise PictureError(f"there is no file {shown(path)}", remedy="Check the path")
    if path.is_dir():
        raise PictureError(f"{shown(path)} is a folder", remedy=_FOLDER)
    return read_regular(path, _MOST_BYTES, lambda problem: PictureError(problem, remedy="Copy the picture into a file"))


def broken_picture(name: str, error: Exception) -> PictureError:
    """What to raise if a decoder failed on a file."""
    return PictureError(f"{name} cannot be decoded: {str(error)[:200] or type(error).__name__}", remedy="Save it again")
