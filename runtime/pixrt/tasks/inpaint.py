"""What a mask selects is filled as the text says. Must not import a backend."""

import numpy as np

from pixrt.backends.protocol import Array
from pixrt.core.conditioning import Conditioning
from pixrt.pictures.masks import hard, to_latents
from pixrt.tasks.task import Task, TaskInputs


def _condition(given: TaskInputs) -> Conditioning:
    """A network made for it sees the mask and the picture without what the mask covers; for another one, which
    as an edit checkpoint's sees a source of zero, the rest of the picture is put back after every step (Lugmayr et al.
    2022, arXiv:2201.09865, equation 8, without resampling).
    """
    starts_anew = not given.options.start
    sees_mask = given.manifest.task == "inpaint"
    source = None if starts_anew and sees_mask else given.encode(given.picture)
    return Conditioning(
        given.contexts,
        given.beside(_masked(given)) if sees_mask else {},
        initial=None if starts_anew or source is None else given.scaled(source),
        anchor=None if sees_mask else given.outside(source),
    )


def _masked(given: TaskInputs) -> Array:
    """The mask's latents and those of the picture without what it covers, `[1 + C, h, w]`."""
    assert given.mask is not None
    mask = hard(given.mask)
    kept = np.where(mask, np.float32(0), given.picture)
    latents = to_latents(mask * np.uint8(255), given.manifest.latents.scale)
    return np.concatenate([latents, given.scaled(given.encode(kept))])


INPAINT = Task(("inpaint", "generate", "edit"), _condition)
