"""Every kind of edit by its name, and how it is carried out on a picture. Must not import PyTorch."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pixrt_export.photo import details, looks, tones
from pixrt_export.photo.pixels import Pixels, to_picture, to_pixels


class Filter(Protocol):
    """Pixels FP32 [H, W, 3] and a strength to pixels of the same size."""

    def __call__(self, x: Pixels, strength: float = ...) -> Pixels:
        """What comes out may lie beyond [0, 1]."""
        ...


TONES: dict[str, Filter] = {
    "black and white": tones.black_and_white,
    "sepia": tones.sepia,
    "warmer": tones.warmer,
    "cooler": tones.cooler,
    "brighter": tones.brighter,
    "darker": tones.darker,
    "more contrast": tones.more_contrast,
    "less contrast": tones.less_contrast,
    "more saturated": tones.more_saturated,
    "less saturated": tones.less_saturated,
    "invert": tones.invert,
    "fog": tones.fog,
    "night": tones.night,
    "sunset": tones.sunset,
    **{f"tint {colour}": partial(tones.tint, colour=colour) for colour in tones.TINTS},
    **{
        f"turn {old} {new}": partial(tones.swap, old=old, new=new)
        for old in tones.HUES
        for new in tones.HUES
        if old != new
    },
}
# Those that have a scale.
SCALED = {
    "blur": details.blur,
    "sharpen": details.sharpen,
    "posterise": details.posterise,
    "pixelate": details.pixelate,
    "vignette": details.vignette,
    "pencil sketch": details.pencil_sketch,
    "emboss": details.emboss,
    "oil painting": details.oil,
    "rain": looks.rain,
    "snow": looks.snow,
    "old photo": looks.old_photo,
}
NAMES = (*TONES, *SCALED)


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: its name in NAMES and its strength."""

    name: str
    strength: float = 1.0

    @property
    def kind(self) -> str:
        """The name without its colours: `tint`, `turn`, or the name itself."""
        first = self.name.split()[0]
        return first if first in ("tint", "turn") else self.name

    def apply(self, picture: NDArray[np.uint8], scale: float = 1.0) -> NDArray[np.uint8]:
        """The right answer for a picture uint8 [H, W, 3]; `scale` multiplies every radius."""
        x = to_pixels(picture)
        if self.name in TONES:
            return to_picture(TONES[self.name](x, self.strength))
        return to_picture(SCALED[self.name](x, self.strength, scale))


KINDS = tuple(dict.fromkeys(Edit(name).kind for name in NAMES))
