"""A picture in the style of another: each step in a window is steered to it. Must not import a backend."""

import numpy as np

from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.maths.style import stylize
from pixrt.options.tasks import StyleOptions
from pixrt.tasks.task import Task, TaskInputs


def _condition(given: TaskInputs) -> Conditioning:
    """The content's latents are the beginning; the target is between them and them in the style."""
    options, style = given.options, given.style
    assert isinstance(options, StyleOptions)
    assert style is not None
    source = given.encode(given.picture)
    content = given.scaled(source)
    weight = options.style_weight / ((options.content_weight + options.style_weight) or 1.0)
    styled = stylize(content, given.scaled(given.encode(style)), options.style_patch)
    target = np.float32(1 - weight) * content + np.float32(weight) * styled
    beside = given.beside(source) if given.manifest.task == "edit" else {}
    everywhere = np.ones((1, *target.shape[1:]), np.float32)
    return Conditioning(given.contexts, beside, initial=content, anchor=Anchor(target, everywhere))


STYLE = Task(("generate", "edit"), _condition)
