"""What a request for pictures may say beside its task's options: fields, as all options are. Must not import numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pixrt.errors import OptionError
from pixrt.options.fields import option, validate
from pixrt.serve.sizes import AUTO
from pixrt.serve.tickets import Output

FORMATS = ("png", "jpeg", "webp")
MOST_PICTURES = 10
MOST_PREVIEWS = 3
MOST_JOB_PREVIEWS = 10
_DAY_MS = 86_400_000

# What a quality sets. `medium` is what the model is made for, so it sets nothing, as `auto` does.
QUALITIES: Mapping[str, str | None] = {"low": "fast", "medium": None, "high": "quality"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFields:
    """What a request may say beside its task's options. Validated on construction: OptionError."""

    prompt: str = option("", "The instruction of an edit, or what the picture should show.", kind="text")
    n: int = option(
        1, "How many pictures; each one's seed is one more than the last's.", kind="whole", low=1, high=MOST_PICTURES
    )
    output_format: Literal["png", "jpeg", "webp"] = option(
        "png", "The format of the pictures.", kind="choice", choices=FORMATS
    )
    output_compression: int | None = option(
        None, "The quality of JPEG and WebP, 100 the best; 95 if not given.", kind="whole", low=0, high=100
    )
    deadline_ms: int | None = option(
        None,
        "Milliseconds from now after which the pictures are not wanted any more; refused at once if they cannot be"
        " done by then.",
        kind="whole",
        low=1,
        high=_DAY_MS,
    )
    model: str | None = option(None, "The name of this server's model, or nothing.", kind="text")
    user: str | None = option(None, "Given back as it is; never logged.", kind="text")
    safety_identifier: str | None = option(None, "Given back as it is; never logged.", kind="text")

    def __post_init__(self) -> None:
        validate(self)

    @property
    def output(self) -> Output:
        """The file that is wanted. Raises OptionError: PNG has no quality."""
        if self.output_compression is None:
            return Output(self.output_format)
        if self.output_format == "png" and self.output_compression < 100:
            raise OptionError(
                f"output_compression is {self.output_compression}, and PNG has no quality",
                remedy="Leave it out, or choose jpeg or webp as output_format",
                option="output_compression",
            )
        return Output(self.output_format, max(1, self.output_compression))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFields(RequestFields):
    """What a request to OpenAI's images API may say beside the options of an edit or of a generation."""

    size: str = option(
        AUTO,
        "auto, or WIDTHxHEIGHT: an edit's must have the picture's proportions, a new picture's sides are multiples of"
        " what the model takes.",
        kind="text",
    )
    quality: Literal["auto", "standard", "low", "medium", "high"] = option(
        AUTO,
        "low is the preset fast, high the preset quality; the others are the model's own defaults.",
        kind="choice",
        choices=(AUTO, "standard", *QUALITIES),
    )
    background: Literal["auto", "opaque"] = option(
        AUTO, "Asks for nothing: a picture keeps its transparency.", kind="choice", choices=(AUTO, "opaque")
    )
    moderation: Literal["auto", "low"] = option(
        AUTO, "Asks for nothing: there is none.", kind="choice", choices=(AUTO, "low")
    )
    response_format: Literal["b64_json"] = option(
        "b64_json", "Pictures are in the answer itself, base64.", kind="choice", choices=("b64_json",)
    )
    stream: bool = option(False, "Answer with server-sent events.", kind="flag")
    partial_images: int = option(
        0,
        "With stream: how many pictures of the way to it, spread over the steps.",
        kind="whole",
        low=0,
        high=MOST_PREVIEWS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFields(RequestFields):
    """What a job may say beside its task's options."""

    partial_images: int = option(
        0,
        "How many pictures of the way to it, spread over the steps.",
        kind="whole",
        low=0,
        high=MOST_JOB_PREVIEWS,
    )
