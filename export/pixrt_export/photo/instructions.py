"""How an edit is asked for, and how strongly; two edits in one sentence. Must not import PyTorch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixrt_export.data.pairs import telling
from pixrt_export.photo.edits import KINDS, NAMES, Edit

SLIGHT, STRONG = 0.5, 1.6
# Before an adjective, and after a verb.
MUCH = {SLIGHT: ("slightly ", "a bit ", "a little "), 1.0: ("",), STRONG: ("much ", "a lot ", "far ")}
DEGREE = {
    SLIGHT: (" slightly", " a bit", " a little"),
    1.0: ("",),
    STRONG: (" strongly", " a lot", " very much"),
}
# {much} and {degree} say the strength: a phrase without either is only used at strength 1.
PHRASES: dict[str, tuple[str, ...]] = {
    "black and white": (
        "make it black and white",
        "turn it into a black and white photo",
        "convert it to grayscale",
        "remove all color",
        "make it monochrome",
    ),
    "sepia": ("make it sepia", "give it a sepia tone", "turn it sepia", "add a sepia filter"),
    "warmer": (
        "make it {much}warmer",
        "warm it up{degree}",
        "make the colors {much}warmer",
        "give it {much}warmer light",
    ),
    "cooler": ("make it {much}cooler", "cool it down{degree}", "make the colors {much}colder", "make it {much}colder"),
    "brighter": ("make it {much}brighter", "brighten it{degree}", "make the photo {much}lighter", "lighten it{degree}"),
    "darker": ("make it {much}darker", "darken it{degree}", "dim the picture{degree}", "make the photo {much}darker"),
    "more contrast": (
        "add {much}more contrast",
        "increase the contrast{degree}",
        "raise the contrast{degree}",
        "give it {much}more contrast",
    ),
    "less contrast": (
        "reduce the contrast{degree}",
        "lower the contrast{degree}",
        "give it {much}less contrast",
        "make it {much}flatter",
    ),
    "more saturated": (
        "make it {much}more colorful",
        "increase the saturation{degree}",
        "make the colors {much}more vivid",
        "make it {much}more saturated",
    ),
    "less saturated": (
        "make it {much}less colorful",
        "reduce the saturation{degree}",
        "mute the colors{degree}",
        "make it {much}less saturated",
    ),
    "invert": ("invert the colors", "make it a negative", "invert it", "turn it into a negative"),
    "posterise": ("posterize it", "make it a poster", "posterise it", "reduce it to a few colors"),
    "fog": ("add fog", "make it {much}foggier", "make it foggy", "make it misty", "put it in fog"),
    "night": ("make it night", "turn it into night", "make it look like night", "as if it were night"),
    "sunset": ("make it sunset", "put it in sunset light", "make it look like sunset", "give it a sunset glow"),
    "tint": ("tint it {colour}", "give it a {colour} tint", "add a {colour} filter", "make everything {colour}"),
    "turn": (
        "turn the {old}s {colour}",
        "make the {old} things {colour}",
        "change {old} to {colour}",
        "replace {old} with {colour}",
    ),
    "blur": ("blur it{degree}", "make it {much}blurrier", "blur the photo{degree}", "make it blurry"),
    "sharpen": ("sharpen it{degree}", "make it {much}sharper", "sharpen the photo{degree}", "make it crisp"),
    "pixelate": ("pixelate it", "make it pixelated", "turn it into pixel art", "make it blocky"),
    "vignette": ("add a vignette", "darken the edges{degree}", "darken the corners{degree}", "give it dark borders"),
    "pencil sketch": ("make it a pencil sketch", "turn it into a pencil drawing", "draw it in pencil", "sketch it"),
    "emboss": ("emboss it", "make it an emboss", "turn it into a relief", "carve it in stone"),
    "oil painting": ("make it an oil painting", "turn it into a painting", "paint it in oil", "as an oil painting"),
    "rain": ("make it rain", "add rain", "make it rainy", "put it in the rain"),
    "snow": ("make it snow", "add snow", "make it snowy", "make it winter", "cover it in snow"),
    "old photo": (
        "make it look like an old photo",
        "make it an old photograph",
        "make it vintage",
        "age the photo",
    ),
}
# Two in one sentence: one of the first and one of the second, in this order.
FIRST = (
    "black and white", "sepia", "warmer", "cooler", "brighter", "darker", "more contrast", "more saturated", "invert",
)  # fmt: skip
SECOND = ("blur", "pixelate", "vignette", "fog", "oil painting", "sharpen")
COMPOUND = "compound"
ALL_KINDS = (*KINDS, COMPOUND)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One edit, or two of which the second is done after the first."""

    edits: tuple[Edit, ...]

    @property
    def kind(self) -> str:
        """One of ALL_KINDS."""
        return self.edits[0].kind if len(self.edits) == 1 else COMPOUND

    def apply(self, picture: NDArray[np.uint8], scale: float = 1.0) -> NDArray[np.uint8]:
        """The right answer for a picture uint8 [H, W, 3]; `scale` multiplies every radius."""
        for edit in self.edits:
            picture = edit.apply(picture, scale)
        return picture

    def phrase(self, rng: np.random.Generator) -> str:
        """Say it in one of its phrasings."""
        return " and ".join(phrasings[rng.integers(len(phrasings))] for phrasings in map(phrasings_of, self.edits))


def phrasings_of(edit: Edit) -> tuple[str, ...]:
    """Every sentence that asks for an edit."""
    words = edit.name.split()
    colours = {"colour": words[-1], "old": words[-2] if edit.kind == "turn" else ""}
    return tuple(
        phrase.format(much=much, degree=degree, **colours).replace("a orange", "an orange")
        for phrase in PHRASES[edit.kind]
        for much, degree in zip(MUCH[edit.strength], DEGREE[edit.strength], strict=True)
        if edit.strength == 1 or "{much}" in phrase or "{degree}" in phrase
    )


def sentences_of(kind: str) -> tuple[str, ...]:
    """Sentences that ask for a kind of edit, in which every word for it occurs, and of its strengths one each."""
    if kind == COMPOUND:
        return tuple(
            " and ".join(phrasings_of(Edit(name))[0] for name in pair) for pair in zip(FIRST, SECOND, strict=False)
        )
    edits = [Edit(name) for name in NAMES if Edit(name).kind == kind]
    strengths = (SLIGHT, STRONG) if has_strengths(kind) else ()
    plain = telling(phrase for edit in edits for phrase in phrasings_of(edit))
    return plain + tuple(phrasings_of(Edit(kind, strength))[0] for strength in strengths)


def has_strengths(kind: str) -> bool:
    """Whether a kind of edit can be asked for slightly and strongly."""
    return any("{much}" in phrase or "{degree}" in phrase for phrase in PHRASES[kind])


def random_instruction(rng: np.random.Generator, kind: str | None = None) -> Instruction:
    """Draw an instruction of this kind, or of any: every kind equally often, half of those with strengths at 1."""
    kind = kind or str(rng.choice(ALL_KINDS))
    if kind == COMPOUND:
        return Instruction((Edit(str(rng.choice(FIRST))), Edit(str(rng.choice(SECOND)))))
    names = [name for name in NAMES if Edit(name).kind == kind]
    strength = float(rng.choice((SLIGHT, 1.0, STRONG), p=(0.25, 0.5, 0.25))) if has_strengths(kind) else 1.0
    return Instruction((Edit(names[rng.integers(len(names))], strength),))
