"""How much work a picture's file may make beside its pixels: some take hours for a megabyte, whatever their size says.

Must not import a backend.
"""

import io

from pixrt.errors import PictureError

# Pillow reads a file's chunks and markers in Python, three or four reads each: this many take a quarter of a second.
MOST_READS = 200_000
# A progressive JPEG comes in about ten scans. Each takes as long as all pixels do, and may have few bytes.
MOST_SCANS = 50
_START_OF_SCAN = b"\xff\xda"


class BoundedFile(io.BytesIO):
    """A file in memory that is read so many times at most. Raises PictureError then."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BytesIO`."""
        self._left -= 1
        if self._left < 0:
            raise PictureError(
                f"the picture's file has so many parts that it is read more than {MOST_READS} times",
                remedy="Save it again, without its metadata",
            )
        return super().read(size)


def check_scans(data: bytes) -> None:
    """Raise PictureError for a JPEG of more scans than any program writes."""
    scans = data.count(_START_OF_SCAN)
    if scans > MOST_SCANS:
        raise PictureError(
            f"the picture has {scans} scans, more than {MOST_SCANS}", remedy="Save it again, as a plain JPEG"
        )
