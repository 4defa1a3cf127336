"""What a client sent as what the editor takes: pictures brought to a size, masks turned around. For the worker."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pixrt.pictures.geometry import Size, check_size
from pixrt.pictures.images import PictureSource, load_picture, measure_picture, to_image
from pixrt.pictures.masks import load_mask
from pixrt.serve.sizes import check_shape
from pixrt.serve.tickets import Asked, Picture, RawPicture
from pixrt.tasks.jobs import Job

if TYPE_CHECKING:
    from PIL import Image


def job_of(asked: Asked) -> Job:
    """The job that a client asks for. Raises PictureError; Problem for a size that its picture cannot have."""
    image, mask = _source(asked.image), _source(asked.mask)
    if asked.size is not None and image is not None:
        measured = measure_picture(image)
        if asked.same_shape:
            check_shape(asked.size, measured)
        if mask is not None and measure_picture(mask) != measured:
            load_mask(mask, measured)  # says that it is of another size
        image, mask = _brought(image, asked.size, smooth=True), _brought(mask, asked.size, smooth=False)
    return Job(options=asked.options, text=asked.text, image=image, mask=mask, style=_source(asked.style))


def _source(given: Picture | None) -> Any:
    if isinstance(given, RawPicture):
        check_size(given.width, given.height, "the picture")
        return np.frombuffer(given.data, np.uint8).reshape(given.height, given.width, 3)
    return given


def _brought(source: PictureSource | None, size: Size, *, smooth: bool) -> "Image.Image | None":
    """A picture of another size, if it has not that one already. What is transparent stays so."""
    if source is None or measure_picture(source) == size:
        return source  # type: ignore[return-value]
    from PIL import Image

    check_size(*size, "the result")
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return to_image(load_picture(source)).resize(size, how)
