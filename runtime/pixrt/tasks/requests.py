"""From what a caller asks for to what is run: everything is checked beforehand.

Must not import a backend.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pixrt.bundles.manifest import Manifest
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.prompts import Prompt
from pixrt.errors import OptionError, PictureError
from pixrt.options.ladder import LEVERS
from pixrt.options.tasks import GenerateOptions, Options, PictureOptions, draw_seed
from pixrt.pictures.geometry import MAX_WORKING_PIXELS, Geometry, Size, check_size, plan_geometry
from pixrt.pictures.images import PictureSource, measure_picture
from pixrt.pictures.inputs import Prepared, Styles, prepare_masked, prepare_picture, prepare_style
from pixrt.pictures.masks import load_mask, mask_region
from pixrt.tasks.budget import Purse
from pixrt.tasks.jobs import Job
from pixrt.tasks.prompts import read_prompt

# Of the instruction and the negative prompt together, so that the parameters fit into every format's metadata.
MAX_TEXT_BYTES = 60_000
_BLUR_SHARE = 128  # a mask fades in over 4 pixels of 512

_Reading: TypeAlias = tuple[str, bool, bool]  # a text, whether its weights are read, and all of it


@dataclass(frozen=True, slots=True)
class Request:
    """A job that has been checked; `index` is its place in the call's results.

    The picture's header has been read, its pixels have not, unless they are `prepared`: `size` is its width and height.
    `options` are resolved, and have a seed. `expected_ms` is what they take by what was measured, where a budget chose.
    """

    index: int
    job: Job
    size: Size
    geometry: Geometry
    tokens: Prompt
    negative_tokens: Prompt
    options: Options
    prepared: Prepared | None = None
    expected_ms: float | None = None

    @property
    def seed(self) -> int:
        """The seed, drawn when none was given."""
        assert self.options.seed is not None
        return self.options.seed

    def latents_size(self, manifest: Manifest) -> tuple[int, int]:
        """Height and width of the working picture's latents."""
        width, height = self.geometry.padded
        return height // manifest.latents.scale, width // manifest.latents.scale

    def prepare(self, manifest: Manifest, styles: Styles) -> Prepared:
        """Decode the pictures, where that has not been done. Raises PictureError, also for one that has changed."""
        if self.prepared is not None:
            return self.prepared
        job, ready, detail = self.job, Prepared(), getattr(self.options, "detail", False)
        if job.image is not None and job.mask is not None:
            blur, inverted = getattr(self.options, "mask_blur", 0), _inverts(self.options)
            ready = prepare_masked(
                job.image, job.mask, self.size, self.geometry, blur=blur, inverted=inverted, detail=detail
            )
        elif job.image is not None:
            ready = prepare_picture(job.image, self.size, self.geometry, detail=detail)
        if job.style is None:
            return ready
        style = prepare_style(job.style, manifest, styles)
        return dataclasses.replace(ready, style=style.pixels, sha256={**ready.sha256, "style": style.sha256})


OnRefused = Callable[[int, PictureError], None]
"""Told of a picture that is refused, by its place; the others go on."""


def make_requests(
    jobs: Sequence[Job],
    manifest: Manifest,
    tokenizer: Tokenizer,
    *,
    most_pixels: int = MAX_WORKING_PIXELS,
    on_refused: OnRefused | None = None,
    levers: Collection[str] = LEVERS,
    purse: Callable[[], Purse] | None = None,
) -> list[Request]:
    """Check everything that jobs name before anything runs: texts, options, and the pictures' headers.

    `levers` are what presets may use, and `purse` what budgets choose by, asked for if there is one.
    Raises OptionError; without `on_refused` also PictureError, as for a working picture of more than `most_pixels`.
    """
    tokens: dict[_Reading, Prompt] = {}
    sizes: dict[int, Size] = {}
    requests = []
    for index, job in enumerate(jobs):
        try:
            request = _make_request(index, job, manifest, tokenizer, tokens, sizes, most_pixels, levers)
            requests.append(request if job.options.budget_ms is None else _within_budget(request, manifest, purse))
        except PictureError as error:
            if on_refused is None:
                raise
            on_refused(index, error)
    return requests


def _make_request(
    index: int,
    job: Job,
    manifest: Manifest,
    tokenizer: Tokenizer,
    tokens: dict[_Reading, Prompt],
    sizes: dict[int, Size],
    most_pixels: int,
    levers: Collection[str],
) -> Request:
    """One job's; texts and pictures that stand in several are looked at once."""
    options = _with_seed(_for_bundle(job.options, manifest, levers))
    _check_texts(job.text, options.negative_prompt)
    texts = [_read(each, options, tokenizer, tokens) for each in (job.text, options.negative_prompt)]
    pieces = max(each.pieces for each in texts)
    text, negative = (each.filled(pieces) for each in texts)
    for name, source in (("image", job.image), ("style", job.style)):
        if source is not None and id(source) not in sizes:
            sizes[id(source)] = _measure(source, name)
    size = sizes.get(id(job.image), (0, 0))
    options = _with_mask(job, size, options)
    geometry = _geometry(job, size, options, manifest, most_pixels)
    return Request(index, job, size, geometry, text, negative, options)


def _read(text: str, options: Options, tokenizer: Tokenizer, known: dict[_Reading, Prompt]) -> Prompt:
    """A text as its options have it read, once for all jobs."""
    key = text, options.weighting, options.long_prompts
    if key not in known:
        known[key] = read_prompt(text, tokenizer, weighting=options.weighting, long=options.long_prompts)
    return known[key]


def _measure(source: PictureSource, name: str) -> Size:
    """A picture's size out of its header. Raises PictureError, which names it."""
    try:
        return measure_picture(source)
    except PictureError as error:
        error.option = name
        raise


def _check_texts(instruction: object, negative_prompt: str) -> None:
    if not isinstance(instruction, str):
        raise OptionError(f"an instruction is {type(instruction).__name__}", remedy="Pass a string", option="text")
    try:
        length = sum(len(json.dumps(text, ensure_ascii=False).encode()) for text in (instruction, negative_prompt))
    except UnicodeEncodeError as error:
        problem = "the instruction or negative prompt is not valid Unicode"
        raise OptionError(problem, remedy="Pass UTF-8", option="text") from error
    if length > MAX_TEXT_BYTES:
        raise OptionError(
            f"the instruction and the negative prompt take {length} bytes together, more than {MAX_TEXT_BYTES}",
            remedy="Shorten them: the text encoder reads a few dozen words",
            option="text",
        )


def _geometry(job: Job, size: Size, options: Options, manifest: Manifest, most_pixels: int) -> Geometry:
    if isinstance(options, GenerateOptions):
        return _new_picture(options, manifest, most_pixels)
    assert isinstance(options, PictureOptions)
    if options.resize == "floor8" and options.resolution is not None:
        raise OptionError(
            f"resolution is {options.resolution}, and resize is floor8, which keeps the picture's own size",
            remedy="Leave the resolution out, or choose resize exact or fit",
            option="resolution",
        )
    sizes = {
        "resolution": options.resolution or manifest.native_resolution,
        "multiple": manifest.size_multiple,
        "most_pixels": most_pixels,
    }
    if job.mask is None:
        return plan_geometry(*size, options.resize, **sizes)
    # Also where all of the picture is worked on: what is wrong with it is told now.
    mask = load_mask(job.mask, size, inverted=_inverts(options))
    padding = getattr(options, "mask_padding", None)
    left, top, right, bottom = (0, 0, *size) if padding is None else mask_region(mask, padding, size)
    region = plan_geometry(right - left, bottom - top, "exact", **sizes)
    return dataclasses.replace(region, crop=(left, top, right, bottom))


def _new_picture(options: GenerateOptions, manifest: Manifest, most_pixels: int) -> Geometry:
    multiple = manifest.size_multiple
    size = options.width or 0, options.height or 0
    if size[0] % multiple or size[1] % multiple:
        raise OptionError(
            f"the picture would be {size[0]} x {size[1]} pixels",
            remedy=f"Give multiples of {multiple} for this bundle",
            option="width" if size[0] % multiple else "height",
        )
    try:
        check_size(*size, "the picture")
        return plan_geometry(*size, "exact", resolution=max(size), multiple=multiple, most_pixels=most_pixels)
    except PictureError as error:
        error.option = "width" if size[0] >= size[1] else "height"
        raise


def _within_budget(request: Request, manifest: Manifest, purse: Callable[[], Purse] | None) -> Request:
    """With what its budget chooses. Raises OptionError."""
    if purse is None:
        raise OptionError("nothing was measured here", remedy="Leave budget_ms out", option="budget_ms")
    asked = request.job.options
    options, expected_ms = purse().choose(asked, request.options, request.geometry, manifest)
    return dataclasses.replace(request, options=options, expected_ms=expected_ms)


def _for_bundle(options: Options, manifest: Manifest, levers: Collection[str]) -> Options:
    """Resolved options, without a guidance by the picture where the network does not see it. Raises OptionError."""
    if manifest.task != "edit" and getattr(options, "image_guidance_scale", 1.0) != 1.0:
        scale = getattr(options, "image_guidance_scale", None)
        if scale is not None:
            raise OptionError(
                f"image_guidance_scale is {scale}, and the network of {manifest.name!r} does not see the picture",
                remedy="Leave it out, or use a bundle of an edit checkpoint",
                option="image_guidance_scale",
            )
        options = _replace(options, image_guidance_scale=1.0)
    native = manifest.native_resolution
    if isinstance(options, GenerateOptions):
        options = _replace(options, width=options.width or native, height=options.height or native)
    elif isinstance(options, PictureOptions) and options.resize != "floor8":
        options = _replace(options, resolution=options.resolution or native)
    return options.resolve(manifest.defaults, levers)


def _with_mask(job: Job, size: Size, options: Options) -> Options:
    """Options that are about a mask, filled in where there is one. Raises OptionError where they do not fit."""
    if job.mask is None:
        for name in ("mask_blur", "mask_padding", "invert_mask"):
            given = getattr(options, name, None)
            if given is not None and given is not False:
                problem = f"{name} is {given}, and there is no mask"
                raise OptionError(problem, remedy="Give a mask", option=name)
        return options
    if isinstance(options, PictureOptions) and options.resize != "exact":
        raise OptionError(
            f"resize is {options.resize}, which changes the picture's size, and there is a mask",
            remedy="Leave resize out: what is outside the mask stays as it is",
            option="resize",
        )
    blur = max(1, max(size) // _BLUR_SHARE)
    return _replace(options, mask_blur=blur) if getattr(options, "mask_blur", 0) is None else options


def _inverts(options: Options) -> bool:
    return bool(getattr(options, "invert_mask", False))


def _with_seed(options: Options) -> Options:
    if options.seed is not None:
        return options
    return _replace(options, seed=draw_seed())


def _replace(options: Options, **values: Any) -> Options:
    """With other values, also of fields that only some tasks have."""
    return dataclasses.replace(options, **values)
