"""What a picture becomes for its client: a file with its parameters, and before that previews. For the worker."""

import io
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from pixrt.editor.result import EditResult
from pixrt.pictures.marking import Marking
from pixrt.pictures.watermark import embed_watermark
from pixrt.serve.tickets import Asked, Result
from pixrt.tasks.requests import Request

if TYPE_CHECKING:
    from PIL import Image

_PREVIEW_SIDE = 1024


def result_of(asked: Asked, result: EditResult, marking: Marking) -> Result:
    """The file that was asked for. Raises OutputError."""
    began = time.perf_counter()
    if asked.output.format == "raw":
        image = embed_watermark(result.image) if marking.watermark else result.image
        data = np.asarray(image.convert("RGB")).tobytes()
    else:
        source = asked.image if isinstance(asked.image, bytes) else None
        data = result.to_bytes(asked.output.format, quality=asked.output.quality, marking=marking, source=source)
    times = asdict(result.times) | {"write_ms": 1000 * (time.perf_counter() - began)}
    return Result(data, asked.output, result.image.size, result.parameters, times, result.backend, result.notes)


def preview_of(image: "Image.Image", request: Request, scale: int) -> bytes:
    """One pixel for each latent, of `scale` pixels, as PNG: as large as the picture, or smaller."""
    from PIL import Image

    width, height = (max(1, side // scale) for side in request.geometry.scaled)
    larger = min(1.0, _PREVIEW_SIDE / max(request.geometry.output))
    wide, high = (max(1, round(side * larger)) for side in request.geometry.output)
    shown = image.crop((0, 0, width, height)).resize((wide, high), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    shown.save(file, "PNG", compress_level=1)
    return file.getvalue()
