"""What a picture file says of how it came about: the reader of what `marking` writes. Must not import a backend."""

from dataclasses import dataclass
from pathlib import Path

from pixrt.errors import PackageMissing
from pixrt.pictures.opening import open_picture
from pixrt.pictures.provenance import SourceType, read_source_type
from pixrt.pictures.signing import Signature, read_signature
from pixrt.pictures.watermark import count_watermark


@dataclass(frozen=True, slots=True)
class Marks:
    """`watermark_bits`: see `count_watermark`; None if it was not asked for. `signature_unread`: why, "" if it was."""

    source_type: SourceType | None
    signature: Signature | None
    signature_unread: str = ""
    watermark_bits: int | None = None


def read_marks(path: Path, *, watermark: bool = False) -> Marks:
    """The marks of a picture. Raises PictureError; PackageMissing if the watermark is asked for and cannot be read."""
    with open_picture(path) as opened:
        image, source_type = opened.load(), read_source_type(opened.xmp)
        bits = count_watermark(image) if watermark else None
    try:
        return Marks(source_type, read_signature(path.read_bytes()), "", bits)
    except PackageMissing as error:
        return Marks(source_type, None, error.problem, bits)
