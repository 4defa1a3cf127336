"""`pixrt edit`: pictures and an instruction in, edited pictures out."""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixrt.cli.console import errors, say, warn
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.outputs import plan_outputs
from pixrt.cli.parameters import with_flags
from pixrt.codecs import WRITABLE_SUFFIXES, read_parameters
from pixrt.engine_spec import LIBRARY_OF
from pixrt.errors import OptionError
from pixrt.files import make_folder
from pixrt.options import BACKENDS, BackendName, EditOptions
from pixrt.spec import Component
from pixrt.store import DEFAULT_BUNDLE, open_bundle
from pixrt_engines.options import Knobs

if TYPE_CHECKING:
    from pixrt.editor import Editor
    from pixrt.result import EditResult, Estimate, StepInfo


@with_flags(EditOptions)
def edit(
    pictures_and_instruction: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE... INSTRUCTION", help="Pictures, then the instruction (left out with --from)."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The edited picture; a folder when there are several pictures.")
    ],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="A bundle's folder or name.")] = DEFAULT_BUNDLE,
    backend: Annotated[
        str, typer.Option(help="auto, or one that `pixrt doctor` lists.", autocompletion=lambda: list(BACKENDS))
    ] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; one per core by default.")] = None,
    max_batch: Annotated[int, typer.Option(help="Most pictures in one network call.")] = 4,
    fused_step: Annotated[
        bool | None, typer.Option(help="Run the bundle's fused step graph, or do not; TensorRT does where it is there.")
    ] = None,
    cuda_graphs: Annotated[bool, typer.Option(help="TensorRT: capture a step, and launch it as one.")] = True,
    weight_budget: Annotated[
        int | None, typer.Option(help="TensorRT: MiB of an engine's weights on the device; the rest is streamed.")
    ] = None,
    provider_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="For the execution provider of an ort- backend; may be repeated."),
    ] = None,
    build_engines: Annotated[
        bool,
        typer.Option("--build-engines", help="TensorRT: first build the engines that these edits lack."),
    ] = False,
    low_memory: Annotated[bool, typer.Option(help="Close each network when its stage is over.")] = False,
    repeat: Annotated[
        Path | None, typer.Option("--from", help="Take instruction and parameters from a picture that pixrt wrote.")
    ] = None,
    lora: LoraFlag = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG, WebP and AVIF quality.")] = 95,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per picture.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Check everything and say what would be done, without doing it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no notes.")] = False,
    *,
    parameters: dict[str, Any],
) -> None:
    """Edit pictures as the instruction says: pixrt edit photo.jpg "make it winter" -o winter.jpg."""
    from pixrt.backends.registry import BackendOptions, check_options
    from pixrt.cli.build import build_for
    from pixrt.editor import Editor
    from pixrt.result import lora_parameters

    pictures, instruction = _split(pictures_and_instruction, repeat)
    earlier: dict[str, Any] = {}
    if repeat is not None:
        instruction, parameters, earlier = _repeated(repeat, parameters)
    targets = plan_outputs(pictures, output, keep=[repeat] if repeat else [])
    how: dict[str, Any] = {
        "threads": threads,
        "cuda_graphs": cuda_graphs,
        "weight_budget_mib": weight_budget,
        "provider_options": _pairs(provider_option or []),
    }
    loaded: dict[str, Any] = {"max_batch": max_batch, "fused_step": fused_step, "loras": lora_inputs(lora)}
    if build_engines:
        check_options(_backend(backend), BackendOptions(**how))
        networks = tuple(map(Component, open_bundle(bundle, verify=False).manifest.components))
        fused = Component.UNET_STEP in networks and fused_step is not False
        # What is wrong with the rest is told before hours are spent.
        with Editor(bundle, backend="null", **loaded | {"fused_step": fused_step or fused}) as estimator:
            estimates = estimator.dry_run(pictures, [instruction], **parameters)
        knobs = Knobs(refittable=bool(lora), weight_streaming=weight_budget is not None)
        components = () if fused else tuple(name for name in networks if name is not Component.UNET_STEP)
        build_for(bundle, backend, estimates, components=components, knobs=knobs, dry_run=dry_run)
        if dry_run:
            return
    with Editor(bundle, backend=_backend(backend), low_memory=low_memory, **how, **loaded) as editor:
        loras = lora_parameters(editor.loras)
        if not quiet:
            _warn_beforehand(editor, repeat, earlier, loras)
        if dry_run:
            estimates = editor.dry_run(pictures, [instruction], **parameters)
            for path, target, estimate in zip(pictures, targets, estimates, strict=True):
                _print_estimate(path, target, estimate, loras, as_json)
            return
        started = time.perf_counter()
        with _progress(hidden=quiet or as_json or not errors.is_terminal) as bar:
            task = bar.add_task("editing", total=None)

            def on_step(info: "StepInfo") -> None:
                bar.update(task, completed=info.step, total=info.total)

            # Written as they come: what is done stays done when a later picture fails or Ctrl-C stops the rest.
            for result in editor.stream(pictures, [instruction], on_step=on_step, **parameters):
                target = targets[result.index]
                make_folder(target.parent)
                result.save(target, quality=quality)
                _print_result(pictures[result.index], target, result, as_json)
        if not quiet:
            _warn_afterwards(result)
        if not quiet and not as_json:
            warn(f"{len(pictures)} edited in {time.perf_counter() - started:.2f} s on {editor.backend}")


def _warn_beforehand(editor: "Editor", repeat: Path | None, earlier: dict[str, Any], loras: dict[str, Any]) -> None:
    if editor.manifest.notice:
        warn(editor.manifest.notice)
    built = {engine.library for engine in editor.manifest.engines}
    for status in editor.passed_over:
        if LIBRARY_OF.get(status.name) in built:
            warn(f"the bundle's engines are not used: {status.reason}")
    if earlier.get("model_sha256") not in (None, editor.manifest.source.sha256):
        warn(f"{repeat} was made with another checkpoint than {editor.manifest.name}: the result will differ")
    if earlier and earlier.get("loras") != loras.get("loras"):
        warn(f"{repeat} was made with {_lora_names(earlier)}, now with {_lora_names(loras)}: the result will differ")


def _warn_afterwards(result: "EditResult") -> None:
    if result.decoded_in_fp32:
        warn("the FP16 decoder's picture was not finite: decoded again in FP32")
    for text, dropped in (
        ("instruction", result.dropped_tokens),
        ("negative prompt", result.dropped_negative_tokens),
    ):
        if dropped:
            warn(f"the last {dropped} tokens of the {text} did not fit the text encoder: left out")


def _print_estimate(path: str, target: Path, estimate: "Estimate", loras: dict[str, Any], as_json: bool) -> None:
    request = estimate.request
    width, height = request.geometry.padded
    facts = {
        "input": path,
        "output": str(target),
        "working_size": [width, height],
        "network_calls": estimate.network_calls,
        "network_rows": estimate.network_rows,
        "dropped_tokens": request.tokens.dropped,
        "dropped_negative_tokens": request.negative_tokens.dropped,
        "parameters": {**loras, "instruction": request.instruction, **dataclasses.asdict(request.options)},
    }
    text = (
        f"{path} -> {target}  worked on at {width} x {height}, {estimate.network_calls} network calls,"
        f" {estimate.network_rows} branch evaluations, seed {request.seed}"
    )
    say(json.dumps(facts) if as_json else text)


def _print_result(path: str, target: Path, result: "EditResult", as_json: bool) -> None:
    facts = {
        "input": path,
        "output": str(target),
        "width": result.image.width,
        "height": result.image.height,
        "backend": result.backend,
        "dropped_tokens": result.dropped_tokens,
        "dropped_negative_tokens": result.dropped_negative_tokens,
        "network_rows": result.network_rows,
        "decoded_in_fp32": result.decoded_in_fp32,
        "times": {name: round(ms, 2) for name, ms in dataclasses.asdict(result.times).items()},
        "parameters": result.parameters,
    }
    text = f"{target}  {result.image.width} x {result.image.height}  seed {result.seed}"
    say(json.dumps(facts) if as_json else text)


def _split(words: list[str], repeat: Path | None) -> tuple[list[str], str]:
    """Pictures and instruction out of the positional arguments; with --from they are all pictures."""
    if repeat is not None:
        return words, ""
    if len(words) < 2:
        raise OptionError(
            f"{words[0]!r} alone is not enough", remedy="Give pictures, then the instruction: IMAGE... INSTRUCTION"
        )
    if Path(words[-1]).suffix.lower() in WRITABLE_SUFFIXES:
        raise OptionError(
            f"the last argument, {words[-1]!r}, looks like a picture, and it must be the instruction",
            remedy="Give pictures, then the instruction: IMAGE... INSTRUCTION",
        )
    return words[:-1], words[-1]


def _repeated(picture: Path, parameters: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Instruction and parameters of an earlier result, and all it says; flags given now come before its parameters."""
    from pixrt.result import options_from

    earlier = read_parameters(picture)
    instruction, options = options_from(earlier, str(picture))
    return instruction, dataclasses.asdict(options) | parameters, earlier


def _lora_names(parameters: dict[str, Any]) -> str:
    """The LoRAs among a picture's parameters, which anyone may have written."""
    loras = parameters.get("loras")
    named = [f"{lora.get('name')}:{lora.get('scale')}" for lora in loras or () if isinstance(lora, dict)]
    return f"the LoRAs {', '.join(named)}" if named else "no LoRA"


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise OptionError(f"a provider option is {word!r}", remedy="Write it as NAME=VALUE")
        pairs[name] = value
    return pairs


def _backend(name: str) -> BackendName:
    return name  # type: ignore[return-value]  # opening a backend checks the name


def _progress(*, hidden: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=errors, disable=hidden, transient=True)
