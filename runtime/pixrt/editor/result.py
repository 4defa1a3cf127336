"""What an edit gives back: the result of each picture, and what a step callback is told. Must not import a backend."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pixrt._version import __version__
from pixrt.bundles.manifest import EmbeddingSpec, LoraSpec
from pixrt.core.timing import StageTimes
from pixrt.editor import notes
from pixrt.errors import OptionError
from pixrt.options.tasks import Options
from pixrt.pictures.codecs import encode_picture, format_of, save_picture
from pixrt.pictures.facts import SourceFacts
from pixrt.pictures.formats import Format
from pixrt.pictures.marking import DEFAULT_MARKING, Marking
from pixrt.pictures.provenance import SourceType
from pixrt.tasks.prompts import meant_for_others
from pixrt.tasks.requests import Request

if TYPE_CHECKING:
    from PIL import Image

    from pixrt.pictures.images import PictureSource


@dataclass(frozen=True, slots=True, repr=False)
class EditResult:
    """One picture and how it was made.

    Attributes:
        index: the place in the call that asked for it.
        image: the picture; of an edit, of the size that `options.resize` says.
        instruction: the instruction, or the prompt.
        options: every parameter in force, the seed included; their class says which task it was.
        dropped_tokens, dropped_negative_tokens: how many tokens of the instruction, and of the negative prompt, did
            not fit the text encoder and were cut.
        unknown_instruction: the instruction has no word of those that the bundle was taught, where it says which, and
            no LoRA or embedding adds to them.
        working_size: width and height in pixels of what the networks saw, padding included.
        network_rows: UNet evaluations of this picture: over the steps, the sum of the branches that ran, for each
            window where there are several.
        shallow_rows: of these, the evaluations of the shallow network.
        times: where the time went.
        expected_ms: what it was to take, by itself, where a budget chose how it is made; None without one.
        model, model_sha256, precision, notice: which checkpoint it was, exported how, and what a user should know.
        loras, embeddings: those that were in use.
        decoded_in_fp32: the FP16 decoder gave values that are not finite, and the bundle's FP32 one made the picture.
        tile: the longer side in pixels of the windows that the UNet ran on; None where it had the whole picture.
        inputs_sha256: of the mask and of the style picture, where there were any: their first 16 digits.
        facts: what the picture's own file says of itself, which the result's file keeps.
        history: the parameters of every edit that led to the picture this one began with, oldest first, each without
            a history of its own; empty where that picture was not made in the same session.
    """

    index: int
    image: "Image.Image"
    instruction: str
    options: Options
    dropped_tokens: int
    dropped_negative_tokens: int
    unknown_instruction: bool
    working_size: tuple[int, int]
    network_rows: int
    times: StageTimes
    backend: str
    model: str
    model_sha256: str
    precision: str
    notice: str
    loras: tuple[LoraSpec, ...] = ()
    embeddings: tuple[EmbeddingSpec, ...] = ()
    decoded_in_fp32: bool = False
    tile: int | None = None
    shallow_rows: int = 0
    expected_ms: float | None = None
    inputs_sha256: Mapping[str, str] = field(default_factory=dict)
    facts: SourceFacts = SourceFacts()
    history: tuple[dict[str, Any], ...] = ()

    def __repr__(self) -> str:
        """In a line: which task, what of, how large, which seed, how long."""
        text, (width, height) = f"{self.instruction:.60}", self.image.size
        took = f"{self.times.total_ms / 1000:.2f} s on {self.backend}"
        return f"EditResult({self.options.task} {text!r}, {width} x {height}, seed {self.seed}, {took})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.to_bytes("png")

    @property
    def seed(self) -> int:
        """The seed that repeats this result."""
        assert self.options.seed is not None
        return self.options.seed

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user should know of this picture, in sentences; mostly nothing."""
        found = list(meant_for_others(self.instruction))
        if self.unknown_instruction:
            found.append(notes.untaught(self.model, self.instruction))
        for text, tokens in (
            ("instruction", self.dropped_tokens),
            ("negative prompt", self.dropped_negative_tokens),
        ):
            if tokens:
                found.append(notes.cut(text, tokens))
        if self.decoded_in_fp32:
            found.append(notes.SECOND_TRY)
        return tuple(found)

    @property
    def parameters(self) -> dict[str, Any]:
        """What repeats the result: the metadata written into pictures. No path, no time, no machine.

        A picture that was made in several edits has the earlier ones' parameters as "history". Masks are not in it.
        """
        return {
            "pixrt": __version__,
            "task": self.options.task,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "precision": self.precision,
            **({"notice": self.notice} if self.notice else {}),
            **lora_parameters(self.loras),
            **({"embeddings": [dataclasses.asdict(each) for each in self.embeddings]} if self.embeddings else {}),
            **({"tile": self.tile} if self.tile else {}),
            "instruction": self.instruction,
            **dataclasses.asdict(self.options),
            **{f"{name}_sha256": digest for name, digest in self.inputs_sha256.items()},
            **({"history": list(self.history)} if self.history else {}),
        }

    def to_bytes(
        self,
        format: Format,
        *,
        quality: int = 95,
        marking: Marking = DEFAULT_MARKING,
        source: "PictureSource | None" = None,
    ) -> bytes:
        """The picture as a file's bytes, with its parameters and what `marking` says inside.

        `format` is png, jpeg, webp or avif; `quality`, 1 to 100, is for all but PNG. `source` is the file that the
        picture was made from (its path or bytes), which a signature names. Raises OptionError, OutputError.
        """
        return encode_picture(
            self.image,
            format,
            parameters=self._text,
            made=SourceType.of(self.options),
            quality=quality,
            marking=marking,
            source=source,
            facts=self.facts,
        )

    def save(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        format: Format | None = None,
        quality: int = 95,
        marking: Marking = DEFAULT_MARKING,
        source: "PictureSource | None" = None,
        overwrite: bool = True,
    ) -> None:
        """Write what `to_bytes` makes into a file, whole or not at all, or to an open one.

        The suffix of its name tells the format, or `format` does. Raises OptionError; OutputError, also for a file that
        is there and not `overwrite`.
        """
        if not isinstance(file, str | os.PathLike):
            form = format or format_of(Path(str(getattr(file, "name", ""))))
            file.write(self.to_bytes(form, quality=quality, marking=marking, source=source))
            return
        path = Path(file)
        if format is not None and format_of(path) != format:
            raise OptionError(
                f"format is {format}, and {path.name} is a file of {format_of(path)}", remedy="Leave the format out"
            )
        save_picture(
            self.image,
            path,
            parameters=self._text,
            made=SourceType.of(self.options),
            quality=quality,
            marking=marking,
            source=source,
            facts=self.facts,
            overwrite=overwrite,
        )

    @property
    def _text(self) -> str:
        return json.dumps(self.parameters, ensure_ascii=False)


def lora_parameters(loras: Sequence[LoraSpec]) -> dict[str, Any]:
    """How LoRAs stand among the parameters of an edit; an empty dict for none."""
    return {"loras": [lora.facts() for lora in loras]} if loras else {}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an edit would do, without doing it: see `EditResult` for the fields.

    `steps` are the loop's, `batch` the number of pictures that can run together with it, `branches` how many branches
    of the guidance its steps run, each number once. `windows` is on how many tiles, of `window_size` (width, height) in
    pixels, every step runs the network; 1 is the whole working picture. `network_calls`, `network_rows` and, of those,
    `shallow_rows` are those of all tiles.
    """

    request: Request
    steps: int
    network_calls: int
    network_rows: int
    batch: int
    branches: tuple[int, ...]
    windows: int
    window_size: tuple[int, int]
    shallow_rows: int = 0
