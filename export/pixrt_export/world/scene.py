"""The scenes of the procedural world: one background, one to three different shapes on a two by two grid.

Every number is a fraction of the picture's side, so a scene has no size of its own. Must not import PyTorch.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "held-out"]

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = {
    "red": (220, 40, 40),
    "orange": (240, 140, 40),
    "yellow": (240, 210, 50),
    "green": (40, 160, 60),
    "cyan": (70, 200, 220),
    "blue": (50, 80, 220),
    "purple": (130, 60, 180),
    "pink": (240, 150, 190),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}
CELLS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
JITTER = 0.025
RADII = (0.125, 0.155)
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: what it is, its colour's name, its centre and radius as fractions of the picture's side."""

    name: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A flat background and the shapes on it; no two shapes have one name, so "the circle" is always clear."""

    background: str
    shapes: tuple[Shape, ...]

    def find(self, name: str) -> Shape:
        """The shape of this name. Raises StopIteration if the scene has none."""
        return next(shape for shape in self.shapes if shape.name == name)

    @property
    def combination(self) -> str:
        """What the scene shows without where: `green: red circle, blue square`, the shapes sorted by name."""
        return f"{self.background}: {', '.join(sorted(f'{shape.colour} {shape.name}' for shape in self.shapes))}"

    @property
    def split(self) -> Split:
        """Which side of the split the scene is on, by a hash of its combination.

        So a held-out combination of background, shapes and colours is never seen in training in any arrangement.
        """
        digest = hashlib.sha256(self.combination.encode()).digest()
        return "held-out" if int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE else "train"


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene: 1, 2 or 3 shapes, each of another colour than the background."""
    background = str(rng.choice(list(COLOURS)))
    others = [colour for colour in COLOURS if colour != background]
    names = rng.permutation(SHAPES)[: rng.integers(1, 4)]
    cells = rng.permutation(len(CELLS))
    shapes = []
    for name, cell in zip(names, cells, strict=False):
        dx, dy = rng.uniform(-JITTER, JITTER, 2)
        x, y = CELLS[cell]
        shapes.append(Shape(str(name), str(rng.choice(others)), x + dx, y + dy, rng.uniform(*RADII)))
    return Scene(background, tuple(shapes))


def random_scene_of(split: Split, rng: np.random.Generator) -> Scene:
    """Draw scenes until one is on this side of the split."""
    while (scene := random_scene(rng)).split != split:
        pass
    return scene
