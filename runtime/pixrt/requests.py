"""From what a caller passes to what the loop runs: pairing pictures with instructions, and forming batches.

Must not import a backend.
"""

import dataclasses
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pixrt.errors import OptionError, PictureError
from pixrt.geometry import Geometry, Size, plan_geometry
from pixrt.images import Picture, PictureSource, load_picture, measure_picture
from pixrt.options import EditOptions, EditParameters
from pixrt.spec import Manifest
from pixrt.tokenizer import Tokenizer, Tokens

Item = TypeVar("Item")

MAX_PICTURES = 10_000
# Of the instruction and the negative prompt together, so that the parameters fit into every format's metadata.
MAX_TEXT_BYTES = 60_000
_RANDOM_SEED_BITS = 32  # short enough to be typed again


@dataclass(frozen=True, slots=True)
class Request:
    """One picture and one instruction of a call; `index` is its place in the call's results.

    The picture's header has been read, its pixels have not: `size` is its width and height.
    """

    index: int
    source: PictureSource
    size: Size
    geometry: Geometry
    instruction: str
    tokens: Tokens
    negative_tokens: Tokens
    options: EditOptions

    @property
    def seed(self) -> int:
        """The seed, drawn when none was given."""
        assert self.options.seed is not None
        return self.options.seed

    def load(self) -> Picture:
        """Decode the picture. Raises PictureError, also where it is no longer the one that was measured."""
        picture = load_picture(self.source)
        height, width = picture.rgb.shape[:2]
        if (width, height) != self.size:
            raise PictureError(
                f"{picture.name} is {width} x {height} pixels, and was {self.size[0]} x {self.size[1]} a moment ago",
                remedy="Leave a picture alone while it is edited",
            )
        return picture


def is_several(value: object) -> bool:
    """Whether an argument holds several pictures, instructions or seeds: a list or a tuple does."""
    return isinstance(value, list | tuple)


def make_requests(
    images: PictureSource | Sequence[PictureSource],
    instructions: str | Sequence[str],
    parameters: EditParameters,
    manifest: Manifest,
    tokenizer: Tokenizer,
) -> list[Request]:
    """Check everything a call names before anything runs: texts, options, and the pictures' headers.

    Several pictures and several instructions are paired one to one; one of either goes with all of the other. One seed
    serves every picture, so that a picture's result does not depend on its company. Raises OptionError, PictureError.
    """
    given: list[PictureSource] = _as_list(images)
    texts: list[str] = _as_list(instructions)
    count = max(len(given), len(texts))
    if not given or not texts or count > MAX_PICTURES:
        raise OptionError(
            f"{len(given)} pictures and {len(texts)} instructions", remedy=f"Pass from 1 to {MAX_PICTURES} of each"
        )
    seeds = _as_list(parameters.get("seed"))
    resolved = [EditOptions(**{**parameters, "seed": each}).resolve(manifest.defaults) for each in seeds]
    options = _spread(resolved, count, "seeds")
    for text in texts:
        _check_texts(text, options[0].negative_prompt)
    negative_tokens = tokenizer.encode(options[0].negative_prompt)
    tokens = _spread([tokenizer.encode(text) for text in texts], count, "instructions")
    sizes = _spread([measure_picture(image) for image in given], count, "pictures")
    given, texts = _spread(given, count, "pictures"), _spread(texts, count, "instructions")
    return [
        Request(
            index=index,
            source=given[index],
            size=sizes[index],
            geometry=_geometry(sizes[index], options[index], manifest),
            instruction=texts[index],
            tokens=tokens[index],
            negative_tokens=negative_tokens,
            options=_with_seed(options[index]),
        )
        for index in range(count)
    ]


def form_batches(requests: Sequence[Request], max_batch: int) -> list[list[Request]]:
    """Group requests whose pictures have the same padded size, in order, at most `max_batch` in a group."""
    groups: dict[Size, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.geometry.padded, []).append(request)
    return [group[i : i + max_batch] for group in groups.values() for i in range(0, len(group), max_batch)]


def _check_texts(instruction: object, negative_prompt: str) -> None:
    if not isinstance(instruction, str):
        raise OptionError(f"an instruction is {type(instruction).__name__}", remedy="Pass a string")
    try:
        length = sum(len(json.dumps(text, ensure_ascii=False).encode()) for text in (instruction, negative_prompt))
    except UnicodeEncodeError as error:
        raise OptionError("the instruction or negative prompt is not valid Unicode", remedy="Pass UTF-8") from error
    if length > MAX_TEXT_BYTES:
        raise OptionError(
            f"the instruction and the negative prompt take {length} bytes together, more than {MAX_TEXT_BYTES}",
            remedy="Shorten them: the text encoder reads a few dozen words",
        )


def _geometry(size: Size, options: EditOptions, manifest: Manifest) -> Geometry:
    if options.resize == "floor8" and options.resolution is not None:
        raise OptionError(
            f"resolution is {options.resolution}, and resize is floor8, which keeps the picture's own size",
            remedy="Leave the resolution out, or choose resize exact or fit",
        )
    resolution = options.resolution or manifest.native_resolution
    return plan_geometry(*size, options.resize, resolution=resolution, multiple=manifest.size_multiple)


def _with_seed(options: EditOptions) -> EditOptions:
    if options.seed is not None:
        return options
    return dataclasses.replace(options, seed=secrets.randbits(_RANDOM_SEED_BITS))


def _as_list(value: Any) -> list[Any]:
    return list(value) if is_several(value) else [value]


def _spread(items: list[Item], count: int, name: str) -> list[Item]:
    if len(items) == 1:
        return items * count
    if len(items) != count:
        raise OptionError(
            f"{len(items)} {name} for {count} edits", remedy=f"Pass 1 or {count}: they are paired one to one"
        )
    return items
