"""What the commands that make pictures print: of a result, of an estimate, and notes around both."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixrt.backends.registry import WITH_ENGINES
from pixrt.cli.console import say, warn
from pixrt.editor import notes
from pixrt.errors import PictureError, PixrtError
from pixrt.pictures.formats import is_flattened
from pixrt.tasks.budget import in_words
from pixrt.tasks.prompts import meant_for_others

if TYPE_CHECKING:
    from pixrt.bundles.manifest import LoraSpec
    from pixrt.editor.editor import Editor
    from pixrt.editor.result import EditResult, Estimate
    from pixrt.tasks.jobs import Job


def warn_beforehand(editor: "Editor", repeat: Path | None = None, earlier: dict[str, Any] | None = None) -> None:
    """What a user should know of the bundle, and of the picture whose parameters are repeated."""
    from pixrt.editor.result import lora_parameters
    from pixrt.options.stored import told, unknown_parameters

    if editor.manifest.notice:
        warn(editor.manifest.notice)
    for note in editor.lora_notes:
        warn(note)
    built = {engine.library for engine in editor.manifest.engines}
    for status in editor.passed_over:
        if WITH_ENGINES.get(status.name) in built:
            warn(f"the bundle's engines are not used: {status.reason}")
    if editor.backend_note is not None:
        warn(editor.backend_note)
    earlier, loras = earlier or {}, lora_parameters(editor.loras)
    if earlier.get("model_sha256") not in (None, editor.manifest.source.sha256):
        warn(f"{repeat} was made with another checkpoint than {editor.manifest.name}: the result will differ")
    if earlier and earlier.get("loras") != loras.get("loras"):
        warn(f"{repeat} was made with {_lora_names(earlier)}, now with {_lora_names(loras)}: the result will differ")
    if earlier.get("tile") not in (None, editor.tile):
        warn(f"{repeat} was made in tiles of {str(earlier['tile'])[:20]} pixels: the result will differ without --tile")
    unknown = unknown_parameters(earlier)
    if unknown:
        warn(told(unknown, str(repeat)))
    history = earlier.get("history")
    if isinstance(history, list) and history:
        warn(f"{repeat} was made in {len(history) + 1} edits, one of another: the last one alone is repeated")


SOFT = 2.0  # times; a result that was scaled up more is told to be soft


class Notes:
    """What a user should know of results, each thing once for all of them."""

    def __init__(self, quiet: bool, earlier: Mapping[str, Any] | None = None) -> None:
        """`earlier` are the parameters that are repeated."""
        self._quiet = quiet
        self._earlier = earlier or {}
        self._second_tries = 0
        self._flattened = 0
        self._others: set[str] = set()  # pictures beside the source that are not those of the earlier result
        self._meant: set[str] = set()  # what texts say to other programs
        self._chosen: dict[str, None] = {}  # what budgets chose
        self._unknown: dict[str, str] = {}  # instructions that the model was not taught, and its name
        self._enlarged = (SOFT, (0, 0))  # how many times the softest result was scaled up, and from what size
        self._dropped: dict[str, set[int]] = {"instruction": set(), "negative prompt": set()}

    def add(self, result: "EditResult", target: Path | None = None) -> None:
        """One more result, and where it is written."""
        self._second_tries += result.decoded_in_fp32
        self._flattened += target is not None and is_flattened(result.image, target)
        for name, digest in result.inputs_sha256.items():
            if self._earlier.get(f"{name}_sha256") not in (None, digest):
                self._others.add(name)
        self._meant |= set(meant_for_others(result.instruction))
        if result.unknown_instruction:
            self._unknown[result.instruction] = result.model
        if result.expected_ms is not None:
            expected = f"{result.expected_ms:.0f} of {result.options.budget_ms} ms expected"
            self._chosen[f"the budget chose {in_words(result.options)}: {expected}"] = None
        if getattr(result.options, "detail", None) is False:
            times = max(a / b for a, b in zip(result.image.size, result.working_size, strict=True))
            self._enlarged = max(self._enlarged, (times, result.working_size))
        self._dropped["instruction"].add(result.dropped_tokens)
        self._dropped["negative prompt"].add(result.dropped_negative_tokens)

    def tell(self) -> None:
        """Say it."""
        if self._quiet:
            return
        for note in self._chosen:
            warn(note)
        if self._second_tries:
            warn(notes.SECOND_TRY)
        if self._flattened:
            warn("JPEG has no transparency: what is transparent is written over white. PNG, WebP and AVIF keep it")
        for name in sorted(self._others):
            warn(f"the {name} is another one than the earlier result was made with: the result will differ")
        for note in sorted(self._meant):
            warn(note)
        if self._unknown:
            (text, model), *rest = self._unknown.items()
            warn(notes.untaught(model, text, len(rest)))
        times, (width, height) = self._enlarged
        if times > SOFT:
            warn(
                f"edited at {width} x {height} pixels and scaled up {times:.1f} times, so it is soft: --detail carries"
                " the change to the picture's full size"
            )
        for text, counts in self._dropped.items():
            most = max(counts, default=0)
            if most:
                warn(notes.cut(text, most))


def warn_of_masks(jobs: "Sequence[Job]") -> None:
    """Say which masks may mean the opposite of what they say. What is wrong with a mask is told elsewhere."""
    from pixrt.pictures.masks import is_of_white_strokes

    masks = {id(job.mask): job for job in jobs if job.mask is not None}
    for job in masks.values():
        assert job.mask is not None
        with suppress(PictureError):
            if not getattr(job.options, "invert_mask", False) and is_of_white_strokes(job.mask):
                name = f"the mask {job.mask}" if isinstance(job.mask, str | Path) else "the mask"
                warn(
                    f"{name} has white strokes on transparency: what is transparent is edited, not the strokes."
                    " Turn it around with --invert-mask"
                )


def print_estimate(path: str, target: Path, estimate: "Estimate", loras: "Sequence[LoraSpec]", as_json: bool) -> None:
    """One line of what a picture would take."""
    from pixrt.editor.result import lora_parameters

    request = estimate.request
    width, height = request.geometry.padded
    facts = {
        "input": path,
        "output": str(target),
        "working_size": [width, height],
        "network_calls": estimate.network_calls,
        "network_rows": estimate.network_rows,
        "shallow_rows": estimate.shallow_rows,
        **({} if request.expected_ms is None else {"expected_ms": round(request.expected_ms, 1)}),
        "windows": estimate.windows,
        "window_size": list(estimate.window_size),
        "dropped_tokens": request.tokens.dropped,
        "dropped_negative_tokens": request.negative_tokens.dropped,
        "parameters": {
            **lora_parameters(loras),
            "instruction": request.job.text,
            **dataclasses.asdict(request.options),
        },
    }
    in_tiles = " in {} tiles of {} x {}".format(estimate.windows, *estimate.window_size) if estimate.windows > 1 else ""
    shallow = f" ({estimate.shallow_rows} of them shallow)" if estimate.shallow_rows else ""
    text = (
        f"{path} -> {target}  worked on at {width} x {height}{in_tiles}, {estimate.network_calls} network calls,"
        f" {estimate.network_rows} branch evaluations{shallow}, seed {request.seed}"
    )
    say(json.dumps(facts) if as_json else text)


def print_result(path: str, target: Path, result: "EditResult", as_json: bool) -> None:
    """One line of what was made."""
    text = f"{target}  {result.image.width} x {result.image.height}  seed {result.seed}"
    say(json.dumps({"input": path, **result_facts(target, result)}) if as_json else text)


def print_failure(path: str, error: PixrtError, as_json: bool, *, several: bool) -> None:
    """A picture that could not be made, one of several: the error of a single one is the command's."""
    if as_json:
        say(json.dumps({"input": path, "error": str(error)}))
    if several:
        warn(str(error) if path in str(error) else f"{path}: {error}")


def result_facts(target: Path, result: "EditResult") -> dict[str, Any]:
    """A result as JSON has it."""
    return {
        "output": str(target),
        "width": result.image.width,
        "height": result.image.height,
        "backend": result.backend,
        "dropped_tokens": result.dropped_tokens,
        "dropped_negative_tokens": result.dropped_negative_tokens,
        "unknown_instruction": result.unknown_instruction,
        "network_rows": result.network_rows,
        "shallow_rows": result.shallow_rows,
        **({} if result.expected_ms is None else {"expected_ms": round(result.expected_ms, 1)}),
        "decoded_in_fp32": result.decoded_in_fp32,
        "times": {name: round(ms, 2) for name, ms in dataclasses.asdict(result.times).items()},
        "parameters": result.parameters,
    }


def _lora_names(parameters: dict[str, Any]) -> str:
    """The LoRAs among a picture's parameters, which anyone may have written."""
    loras = parameters.get("loras")
    keys = ("name", "scale", "text_encoder_scale")
    named = [":".join(str(lora[key]) for key in keys if key in lora) for lora in loras or () if isinstance(lora, dict)]
    return f"the LoRAs {', '.join(named)}" if named else "no LoRA"
