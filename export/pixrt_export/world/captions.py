"""What a picture of the world is called, for text-to-image. Must not import PyTorch."""

import numpy as np

from pixrt_export.world.instructions import with_articles
from pixrt_export.world.scene import Scene

FORMS = ("{shapes} on a {background} background", "a {background} background with {shapes}")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Name the background and every shape, in an order and a form drawn at random.

    For example "a red circle and a blue square on a green background".
    """
    named = [f"a {shape.colour} {shape.name}" for shape in scene.shapes]
    named = [named[i] for i in rng.permutation(len(named))]
    shapes = " and ".join([", ".join(named[:-1]), named[-1]]) if len(named) > 1 else named[0]
    return with_articles(str(rng.choice(FORMS)).format(shapes=shapes, background=scene.background))
