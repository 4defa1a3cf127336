"""An invisible watermark in a picture's pixels: `blind-watermark` (extra `watermark`) writes 48 fixed bits.

Each 8 x 8 pixels carry one of the bits, over and over: JPEG leaves them readable, scaling and cropping do not, and a
picture that is nearly all of pure white or of a pure colour has no room for them. Reading needs no original. Pillow
and the library are imported when needed. Must not import a backend.
"""

import functools
import multiprocessing
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import OutputError, PackageMissing

if TYPE_CHECKING:
    from PIL import Image

# 24 ones and 24 zeros.
PAYLOAD = np.unpackbits(np.frombuffer(bytes.fromhex("a5d3b6b90c4c"), np.uint8)).astype(bool)
# Of random bits so many agree in two of a billion pictures.
ENOUGH = 44
_REMEDY = "pip install 'pixrt[watermark]'"
_SET_START_METHOD = multiprocessing.set_start_method


def require_watermark() -> None:
    """Raise PackageMissing unless watermarks can be written and read here."""
    _library()


def embed_watermark(image: "Image.Image") -> "Image.Image":
    """The picture, RGB or RGBA, with the mark in its colours; the alpha channel stays as it is.

    Raises OutputError for a picture with too few pixels, PackageMissing.
    """
    from PIL import Image

    room = room_for(image.size)
    if room <= len(PAYLOAD):
        raise OutputError(
            f"{image.width} x {image.height} pixels have room for {room} bits, and the watermark has {len(PAYLOAD)}",
            remedy="Make a larger picture, or leave the watermark out",
        )
    mark = _library().WaterMark()
    mark.read_img(img=_bgr(image))
    mark.read_wm(PAYLOAD.copy(), mode="bit")  # it shuffles what it is given
    marked = Image.fromarray(np.rint(mark.embed()).clip(0, 255).astype(np.uint8)[:, :, ::-1])
    if image.mode == "RGBA":
        marked.putalpha(image.getchannel("A"))
    return marked


def count_watermark(image: "Image.Image") -> int:
    """How many of the watermark's 48 bits a picture has: about 24 without it, `ENOUGH` or more with it.

    0 for a picture with too few pixels. Raises PackageMissing.
    """
    if room_for(image.size) <= len(PAYLOAD):
        return 0
    mark = _library().WaterMark()
    mark.wm_size = len(PAYLOAD)
    averages: NDArray[Any] = mark.extract_decrypt(mark.bwm_core.extract(_bgr(image), len(PAYLOAD)))
    # Above the median, for half of the bits are ones: where colours are at their ends, all of them read alike.
    return int(((averages > np.median(averages)) == PAYLOAD).sum())


def room_for(size: tuple[int, int]) -> int:
    """How many bits a picture of this width and height in pixels can carry."""
    width, height = ((side + 1) // 2 // 4 for side in size)
    return width * height


def _bgr(image: "Image.Image") -> NDArray[np.uint8]:
    """Colours `[H, W, 3]` in the library's order."""
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


@functools.cache
def _library() -> ModuleType:
    if find_spec("blind_watermark") is None:
        raise PackageMissing(
            "a watermark needs blind-watermark, which is not installed", remedy=f"Install it: {_REMEDY}"
        )
    # Importing it sets how the whole process starts others, and fails if that is set: neither is its business.
    multiprocessing.set_start_method = lambda *_, **__: None
    try:
        import blind_watermark
    except ImportError as error:  # of OpenCV, without the system's libGL
        raise PackageMissing(
            f"blind-watermark cannot be imported: {str(error).splitlines()[0]}",
            remedy=f"Install what it names, or again: {_REMEDY}",
        ) from error
    finally:
        multiprocessing.set_start_method = _SET_START_METHOD
    blind_watermark.bw_notes.close()  # else it greets on standard output
    module: ModuleType = blind_watermark
    return module
