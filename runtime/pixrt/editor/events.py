"""What happens while pictures are made: a step has run, a picture is made, a picture has failed.

Callbacks, progress bars and streams are adapters of these. Must not import a backend.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pixrt.core.conditioning import Latents
from pixrt.core.pool import Pool
from pixrt.editor.result import EditResult
from pixrt.errors import PixrtError
from pixrt.tasks.requests import Request

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, eq=False)
class Stepped:
    """A picture's step has run. What it shows can be asked for until the next event: steps reuse their arrays.

    Attributes:
        request: the picture's.
        step, of: this is its step number `step`, from 1, of so many.
        pool, slot: where it advances.
        preview_matrix: `[C + 1, 3]`, the bundle's linear map from latents to colours in [-1, 1].
    """

    request: Request
    step: int
    of: int
    pool: Pool
    slot: int
    preview_matrix: tuple[tuple[float, ...], ...]

    @property
    def index(self) -> int:
        """The picture's place in the call."""
        return self.request.index

    @property
    def latents(self) -> Latents:
        """A copy of the latents after this step, `[C, h, w]`, in the solver's own scale."""
        return self.pool.latents(self.slot)

    def preview(self) -> "Image.Image":
        """The predicted picture, one pixel per latent, through the linear map."""
        from PIL import Image

        matrix = np.asarray(self.preview_matrix, np.float32)
        rgb = np.einsum("chw,cr->hwr", self.pool.denoised(self.slot), matrix[:-1]) + matrix[-1]
        return Image.fromarray(np.rint((rgb / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Made:
    """A picture is made."""

    result: EditResult

    @property
    def index(self) -> int:
        """The picture's place in the call."""
        return self.result.index


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture cannot be made: it cannot be read, is not finite, took too much memory, or was cancelled.

    The others go on.
    """

    request: Request
    error: PixrtError

    @property
    def index(self) -> int:
        """The picture's place in the call."""
        return self.request.index


Event: TypeAlias = Stepped | Made | Failed
StepInfo = Stepped
OnStep = Callable[[Stepped], object]
"""Called after every step of every picture; returning False, or raising, stops the call."""


def asks_to_stop(answer: object) -> bool:
    """Whether what a callback returned is False, Python's or NumPy's; nothing at all is not."""
    return isinstance(answer, bool | np.bool_) and not answer
