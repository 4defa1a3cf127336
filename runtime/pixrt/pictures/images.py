"""Pictures as pixels: files, PIL images and arrays to sRGB, and to and from what the networks take.

Pillow is imported when the first picture is. Must not import a backend.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from pixrt.errors import PictureError
from pixrt.pictures.codecs import over_white
from pixrt.pictures.facts import SourceFacts, facts_of
from pixrt.pictures.geometry import Geometry, check_size
from pixrt.pictures.opening import Opened, broken_picture, open_picture, opened_image

if TYPE_CHECKING:
    from PIL import Image


class SupportsArray(Protocol):
    """What NumPy makes an array of."""

    def __array__(self) -> NDArray[Any]: ...


# A Union, for a name in quotes (Pillow is not imported yet) takes no |.
PictureSource: TypeAlias = Union[str, os.PathLike[str], bytes, NDArray[Any], SupportsArray, "Image.Image"]
"""A path, an encoded file's bytes, an array `[H, W]` or `[H, W, 1|3|4]` (uint8, or float in [0, 1]), or a PIL image.

What has `__array__`, such as a PyTorch tensor on the CPU, is an array.
"""

_FIRST_ON_ITS_SIDE = 5


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: sRGB pixels `[H, W, 3]` uint8 over white, and what was transparent `[H, W]` uint8.

    `straight` are the pixels as they were, not over white; `rgb` itself if nothing is transparent. `facts` is what the
    file says of itself that a result keeps.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    name: str
    straight: NDArray[np.uint8]
    facts: SourceFacts = SourceFacts()


def load_picture(source: PictureSource) -> Picture:
    """Decode, turn upright (EXIF), convert to sRGB (ICC), and put transparency over white.

    Raises PictureError for a file that is missing, broken, animated, of another format, or beyond the caps.
    """
    with _opened(source) as opened:
        image, name, facts = opened.load(), opened.name, facts_of(opened)
        try:
            image = _to_rgb(_upright(image, opened.orientation), opened.icc)
        except PictureError:
            raise
        except Exception as error:  # decoders raise many unrelated types on broken files
            raise broken_picture(name, error) from error
        if image.mode == "RGB":
            rgb = np.asarray(image)
            return Picture(rgb, None, name, rgb, facts)
        alpha = np.asarray(image.getchannel("A"))
        return Picture(np.asarray(over_white(image)), alpha, name, np.asarray(image)[:, :, :3], facts)


def to_image(picture: Picture) -> "Image.Image":
    """A decoded picture as a PIL image of its own, RGB or RGBA; `load_picture` of it gives the same pixels."""
    from PIL import Image

    if picture.alpha is None:
        return Image.fromarray(picture.rgb).copy()
    return Image.fromarray(np.dstack([picture.straight, picture.alpha]))


def measure_picture(source: PictureSource) -> tuple[int, int]:
    """Width and height in pixels of what `load_picture` gives, from its header only. Raises PictureError."""
    with _opened(source) as opened:
        width, height = opened.image.size
        return (height, width) if opened.orientation >= _FIRST_ON_ITS_SIDE else (width, height)


@contextmanager
def _opened(source: PictureSource) -> Iterator[Opened]:
    """Any source as an opened picture within the caps."""
    from PIL import Image

    if isinstance(source, str | os.PathLike):
        with open_picture(Path(source)) as opened:
            yield opened
    elif isinstance(source, bytes):
        with open_picture(source) as opened:
            yield opened
    elif isinstance(source, np.ndarray):
        yield Opened(_from_array(source), "the array")
    elif isinstance(source, Image.Image):
        check_size(*source.size, "the picture")
        yield opened_image(source)
    elif hasattr(source, "__array__"):
        yield Opened(_from_array(as_array(source)), "the array")
    else:
        raise PictureError(
            f"a picture is a {type(source).__name__}",
            remedy="Pass a path, a file's bytes, a PIL image or a NumPy array",
        )


def to_network(picture: Picture, geometry: Geometry) -> NDArray[np.float32]:
    """The working picture `[3, H, W]` in [-1, 1]: cropped, scaled (Lanczos), mirrored at the right and the bottom."""
    rgb = picture.rgb
    height, width = rgb.shape[:2]
    if geometry.crop != (0, 0, width, height) or geometry.scaled != (width, height):
        from PIL import Image

        image = Image.fromarray(rgb)
        rgb = np.asarray(image.resize(geometry.scaled, Image.Resampling.LANCZOS, box=geometry.crop))
    right, bottom = (padded - scaled for padded, scaled in zip(geometry.padded, geometry.scaled, strict=True))
    if right or bottom:
        rgb = np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="reflect")
    pixels = np.empty((3, *rgb.shape[:2]), np.float32)
    for plane, channel in zip(pixels, rgb.transpose(2, 0, 1), strict=True):  # each while it is near
        plane[:] = channel
        plane /= np.float32(255)
        plane *= np.float32(2)
        plane -= np.float32(1)
    return pixels


def from_network(pixels: NDArray[np.float32], geometry: Geometry) -> "Image.Image":
    """Pixels `[3, H, W]` in [-1, 1] as an RGB image: without padding, scaled to the output."""
    from PIL import Image

    width, height = geometry.scaled
    unit = pixels[:, :height, :width] / 2
    unit += np.float32(0.5)
    np.clip(unit, 0, 1, out=unit)
    unit *= np.float32(255)
    np.rint(unit, out=unit)
    # Pillow puts channels side by side four times as fast as NumPy.
    image = Image.merge("RGB", [Image.fromarray(channel) for channel in unit.astype(np.uint8)])
    if geometry.output != geometry.scaled:
        image = image.resize(geometry.output, Image.Resampling.LANCZOS)
    return image


def with_alpha(image: "Image.Image", alpha: NDArray[np.uint8] | None, geometry: Geometry) -> "Image.Image":
    """A result with the transparency `[H, W]` of the picture that it was made from: RGBA, or as it is for none."""
    if alpha is not None:
        from PIL import Image

        channel = Image.fromarray(alpha)
        if (geometry.crop, geometry.output) != ((0, 0, *channel.size), channel.size):
            channel = channel.resize(geometry.output, Image.Resampling.LANCZOS, box=geometry.crop)
        image.putalpha(channel)
    return image


def as_array(source: PictureSource) -> Any:
    """A PyTorch tensor, or what else becomes an array, as one; any other source as it is. Raises PictureError."""
    if isinstance(source, np.ndarray) or not hasattr(source, "__array__"):
        return source
    try:
        return np.asarray(source)
    except Exception as error:  # whatever its library raises, such as for a tensor on a GPU
        kind = type(source).__name__
        problem = f"a picture is a {kind} that does not become a NumPy array: {str(error)[:200]}"
        raise PictureError(problem, remedy="Pass it as an array, such as tensor.detach().cpu().numpy()") from error


def _from_array(array: NDArray[Any]) -> "Image.Image":
    from PIL import Image

    shape = array.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        remedy = "Pass [H, W] or [H, W, C] with 1, 3 or 4 channels"
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            remedy = "Its channels come first: pass it with .transpose(1, 2, 0), a tensor with .permute(1, 2, 0)"
        raise PictureError(f"the array has shape {list(shape)}", remedy=remedy)
    check_size(shape[1], shape[0], "the array")
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise PictureError(f"the array's floats are from {low:g} to {high:g}", remedy="They must be from 0 to 1")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PictureError(f"the array is {array.dtype}", remedy="Pass uint8, or floats from 0 to 1")
    if len(shape) == 3 and shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: "Image.Image", orientation: int) -> "Image.Image":
    """A picture turned by EXIF's orientation (EXIF 2.32, 4.6.4). Its metadata is not written again: it may not fit."""
    from PIL.Image import Transpose

    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: "Image.Image", profile: bytes) -> "Image.Image":
    """RGB, or RGBA if anything can be transparent, in sRGB."""
    from PIL import Image

    transparent = image.info.get("transparency")
    alpha = None
    if image.mode.startswith("I"):  # 16 bits per pixel, in Pillow's several spellings
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 0xFFFF:
            raise PictureError(f"the picture's values are from {wide.min()} to {wide.max()}", remedy="Use 8 or 16 bits")
        if isinstance(transparent, int):
            alpha = Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8))
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise PictureError("the picture's values are floats", remedy="Pass it as an array from 0 to 1")
    elif image.has_transparency_data or image.mode == "La":
        image = image.convert("LA") if image.mode == "La" else image
        whole = image.convert("RGBA")
        alpha = whole.getchannel("A")
        image = image.convert("L") if image.mode == "LA" else whole.convert("RGB")
    elif image.mode in ("P", "1", "RGBX"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image = _to_srgb(image, profile)
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _to_srgb(image: "Image.Image", profile: bytes) -> "Image.Image":
    if profile:
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile that is broken, or not for these channels, is as good as none: so do browsers
        else:
            assert converted is not None
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")
