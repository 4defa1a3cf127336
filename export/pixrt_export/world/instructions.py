"""What can be asked of a scene, in how many words, and what the right answer is. Must not import PyTorch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from pixrt_export.data.pairs import telling
from pixrt_export.world.scene import COLOURS, SHAPES, Scene, Shape

BIGGER, SMALLER = 1.4, 0.6

# Every kind of instruction and its phrasings. `border` is not taught to `shapes`: a LoRA learns it.
PHRASES: dict[str, tuple[str, ...]] = {
    "recolor": (
        "make the {shape} {value}",
        "turn the {shape} {value}",
        "paint the {shape} {value}",
        "color the {shape} {value}",
        "change the color of the {shape} to {value}",
        "the {shape} should be {value}",
    ),
    "background": (
        "make the background {value}",
        "turn the background {value}",
        "change the background to {value}",
        "give it a {value} background",
        "put it on a {value} background",
    ),
    "remove": (
        "remove the {shape}",
        "delete the {shape}",
        "erase the {shape}",
        "take away the {shape}",
        "get rid of the {shape}",
    ),
    "replace": (
        "turn the {shape} into a {value}",
        "replace the {shape} with a {value}",
        "change the {shape} to a {value}",
        "swap the {shape} for a {value}",
    ),
    "bigger": ("make the {shape} bigger", "make the {shape} larger", "enlarge the {shape}"),
    "smaller": ("make the {shape} smaller", "shrink the {shape}", "reduce the {shape}"),
    "grayscale": ("make it black and white", "convert it to grayscale", "remove all color", "make it monochrome"),
    "invert": ("invert the colors", "make it a negative", "invert the picture"),
    "darken": ("make it darker", "darken the picture", "dim the picture"),
    "border": ("add a border", "put a border around it", "give it a white frame"),
}
OF_SHAPES = ("recolor", "remove", "replace", "bigger", "smaller")
OF_PICTURES = ("grayscale", "invert", "darken")
BASE_KINDS = ("recolor", "background", "remove", "replace", "resize", "grayscale", "invert", "darken", "compound")
KINDS = (*BASE_KINDS, "border")
# What two at once are like.
COMPOUNDS = ("make the square red and make the background white", "remove the star and make the circle bigger")
# How often each kind is drawn, before the phrasings: the ones with many answers more often.
WEIGHTS = (0.22, 0.16, 0.11, 0.13, 0.12, 0.05, 0.05, 0.05, 0.11)


@dataclass(frozen=True, slots=True)
class View:
    """A scene and the filters over the whole picture: what a picture of the world shows."""

    scene: Scene
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: its name in PHRASES, the shape it is about, and the new colour or shape."""

    name: str
    shape: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One edit, or two at once (`compound`)."""

    edits: tuple[Edit, ...]

    @property
    def kind(self) -> str:
        """One of BASE_KINDS, or `border`."""
        if len(self.edits) > 1:
            return "compound"
        return "resize" if self.edits[0].name in ("bigger", "smaller") else self.edits[0].name

    def phrase(self, rng: np.random.Generator) -> str:
        """Say it, in phrasings drawn from PHRASES."""
        return " and ".join(str(rng.choice(phrasings_of(edit))) for edit in self.edits)

    def apply(self, scene: Scene) -> View:
        """The right answer."""
        view = View(scene)
        for edit in self.edits:
            view = _apply(edit, view)
        return view


def phrasings_of(edit: Edit) -> tuple[str, ...]:
    """Every sentence that asks for an edit."""
    return tuple(with_articles(phrase.format(shape=edit.shape, value=edit.value)) for phrase in PHRASES[edit.name])


def sentences_of(kind: str) -> tuple[str, ...]:
    """Sentences that ask for a kind of instruction, in which every word for it occurs."""
    if kind == "compound":
        return COMPOUNDS
    names = ("bigger", "smaller") if kind == "resize" else (kind,)
    values = {"recolor": tuple(COLOURS), "background": tuple(COLOURS), "replace": SHAPES}.get(kind, ("",))
    shapes = SHAPES if names[0] in OF_SHAPES else ("",)
    edits = [
        Edit(name, *each) for name in names for each in product(shapes, values) if len(set(each)) == 2 or not any(each)
    ]
    return telling(phrase for edit in edits for phrase in phrasings_of(edit))


def with_articles(text: str) -> str:
    """The same text with "an" before the one name that begins with a vowel."""
    return text.replace("a orange", "an orange")


def single_edits(scene: Scene) -> Iterator[Edit]:
    """Every edit of the base kinds for this scene; none gives a shape the colour of its background.

    All change the picture, but for `grayscale` if the scene is only of black, white and gray.
    """
    taken = {shape.colour for shape in scene.shapes} | {scene.background}
    yield from (Edit("background", value=colour) for colour in COLOURS if colour not in taken)
    absent = [name for name in SHAPES if name not in {shape.name for shape in scene.shapes}]
    for shape in scene.shapes:
        free = (colour for colour in COLOURS if colour not in (shape.colour, scene.background))
        yield from (Edit("recolor", shape.name, colour) for colour in free)
        yield from (Edit("replace", shape.name, name) for name in absent)
        yield from (Edit(name, shape.name) for name in ("remove", "bigger", "smaller"))
    yield from (Edit(name) for name in OF_PICTURES)


def single_instructions(scene: Scene) -> list[Instruction]:
    """Every instruction of one edit that applies to the scene."""
    return [Instruction((edit,)) for edit in single_edits(scene)]


def random_instruction(scene: Scene, rng: np.random.Generator, kind: str | None = None) -> Instruction:
    """Draw one instruction that applies to the scene, of this kind or of a kind drawn by WEIGHTS."""
    if kind == "border":
        return Instruction((Edit("border"),))
    kind = kind or str(rng.choice(BASE_KINDS, p=WEIGHTS))
    if kind == "compound":
        return _random_compound(scene, rng)
    fitting = [instruction for instruction in single_instructions(scene) if instruction.kind == kind]
    return fitting[rng.integers(len(fitting))]


def _random_compound(scene: Scene, rng: np.random.Generator) -> Instruction:
    """Two edits, about two different things, that do not get into each other's way."""
    edits = [edit for edit in single_edits(scene) if edit.name not in OF_PICTURES]
    first = edits[rng.integers(len(edits))]
    after = _apply(first, View(scene)).scene
    # Of the same scene before and after the first one, so that the order does not matter.
    still = set(single_edits(after))
    fitting = [edit for edit in edits if edit in still and edit.shape != first.shape]
    return Instruction((first, fitting[rng.integers(len(fitting))])) if fitting else Instruction((first,))


def _apply(edit: Edit, view: View) -> View:
    scene = view.scene
    if edit.name in OF_PICTURES or edit.name == "border":
        return replace(view, filters=(*view.filters, edit.name))
    if edit.name == "background":
        return replace(view, scene=replace(scene, background=edit.value))
    shapes = (_changed(edit, shape) if shape.name == edit.shape else shape for shape in scene.shapes)
    return replace(view, scene=replace(scene, shapes=tuple(shape for shape in shapes if shape is not None)))


def _changed(edit: Edit, shape: Shape) -> Shape | None:
    match edit.name:
        case "recolor":
            return replace(shape, colour=edit.value)
        case "replace":
            return replace(shape, name=edit.value)
        case "bigger":
            return replace(shape, radius=shape.radius * BIGGER)
        case "smaller":
            return replace(shape, radius=shape.radius * SMALLER)
        case _:
            return None
