"""`pixrt edit`, `img2img`, `inpaint`, `style` and `generate`: pictures and text in, pictures out."""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from pixrt.cli.console import warn
from pixrt.cli.inputs import read_input
from pixrt.cli.outputs import number_outputs, plan_outputs, split_text
from pixrt.cli.parameters import MASK, OUTPUT, with_arguments_of, with_flags
from pixrt.cli.running import Running
from pixrt.errors import OptionError
from pixrt.options.choices import PRESET_FIELDS
from pixrt.options.tasks import (
    EditOptions,
    GenerateOptions,
    Img2ImgOptions,
    InpaintOptions,
    Options,
    StyleOptions,
    seeds_from,
)
from pixrt.pictures.codecs import read_parameters
from pixrt.pictures.formats import READABLE_SUFFIXES

Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="The picture to write; a folder when there are several; - is standard output (a PNG).",
        rich_help_panel=OUTPUT,
    ),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="PATH", help="Take text and parameters from a picture that this command wrote."),
]
MaskFlag = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="White may change, the rest stays; or transparent, where anything is. One for all pictures, or one each.",
        rich_help_panel=MASK,
    ),
]
PicturesAndInstruction = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE... INSTRUCTION",
        help="Pictures (- is standard input), then the instruction (left out with --from).",
    ),
]
PicturesAndPrompt = Annotated[
    list[str], typer.Argument(metavar="IMAGE... PROMPT", help="Pictures, then the prompt (left out with --from).")
]


@with_arguments_of(Running, "running")
@with_flags(EditOptions)
def edit(
    pictures_and_instruction: PicturesAndInstruction,
    output: Output,
    mask: MaskFlag = None,
    repeat: From = None,
    *,
    running: Running,
    parameters: dict[str, Any],
) -> None:
    """Edit pictures as the instruction says."""
    _make(EditOptions, pictures_and_instruction, output, repeat, running, parameters, mask=mask)


@with_arguments_of(Running, "running")
@with_flags(Img2ImgOptions)
def img2img(
    pictures_and_prompt: PicturesAndPrompt,
    output: Output,
    repeat: From = None,
    *,
    running: Running,
    parameters: dict[str, Any],
) -> None:
    """Make pictures from others and a prompt, with a text-to-image bundle; --strength says how far from them."""
    _make(Img2ImgOptions, pictures_and_prompt, output, repeat, running, parameters)


@with_arguments_of(Running, "running")
@with_flags(InpaintOptions)
def inpaint(
    pictures_and_prompt: PicturesAndPrompt,
    output: Output,
    mask: MaskFlag = None,
    repeat: From = None,
    *,
    running: Running,
    parameters: dict[str, Any],
) -> None:
    """Fill what a mask selects as the prompt says, with an inpainting or a text-to-image bundle."""
    _make(InpaintOptions, pictures_and_prompt, output, repeat, running, parameters, mask=mask)


@with_arguments_of(Running, "running")
@with_flags(StyleOptions)
def style(
    pictures_and_style: Annotated[
        list[str], typer.Argument(metavar="IMAGE... STYLE", help="Pictures, then the one whose style they get.")
    ],
    output: Output,
    instruction: Annotated[str | None, typer.Option(metavar="TEXT", help="What else is to be done.")] = None,
    repeat: From = None,
    *,
    running: Running,
    parameters: dict[str, Any],
) -> None:
    """Give pictures the style of another one."""
    if len(pictures_and_style) < 2:
        raise OptionError("there is one picture", remedy="Give pictures, then the one with the style: IMAGE... STYLE")
    *pictures, model = pictures_and_style
    _make(StyleOptions, pictures, output, repeat, running, parameters, text=instruction or "", style=[model])


@with_arguments_of(Running, "running")
@with_flags(GenerateOptions)
def generate(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT...", help="Left out with --from.")] = None,
    output: Output = ...,  # type: ignore[assignment]  # typer's way of saying that it must be given
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Pictures per prompt; the seed of each is one more.")
    ] = 1,
    repeat: From = None,
    *,
    running: Running,
    parameters: dict[str, Any],
) -> None:
    """Make pictures from text alone, with a text-to-image bundle or an edit bundle."""
    from pixrt.tasks.jobs import pair

    earlier: dict[str, Any] = {}
    if repeat is not None:
        prompt, parameters, earlier = _repeated(GenerateOptions, repeat, parameters)
        prompts = prompts or [prompt]
    if not prompts:
        raise OptionError("there is no prompt", remedy="Give one, in quotes")
    texts = [prompt for prompt in prompts for _ in range(count)]
    if count > 1:
        parameters["seed"] = [*seeds_from(parameters.get("seed"), count)] * len(prompts)
    kept = [repeat] if repeat else []
    targets = number_outputs(len(texts), output, keep=kept, overwrite=running.overwrite)
    running.make(pair(GenerateOptions, parameters, text=texts), texts, targets, earlier=earlier, repeat=repeat)


def _make(
    options: type[Options],
    words: list[str],
    output: Path,
    repeat: Path | None,
    running: Running,
    parameters: dict[str, Any],
    text: str | None = None,
    **given: Any,
) -> None:
    """Pictures by one task, with `text`, or the one after them where it is None; `given` are its further pictures."""
    from pixrt.tasks.jobs import pair

    pictures, said = (words, text) if text is not None or repeat else split_text(words, READABLE_SUFFIXES)
    earlier: dict[str, Any] = {}
    if repeat is not None:
        repeated, parameters, earlier = _repeated(options, repeat, parameters)
        said = said or repeated
    further = {name: list(paths) for name, paths in given.items() if paths}
    kept = [Path(path) for paths in further.values() for path in paths]
    kept += [repeat] if repeat else []
    targets = plan_outputs(pictures, output, keep=kept, overwrite=running.overwrite)
    if len(targets) == 1 and targets[0].parent == output and not output.exists() and not running.quiet:
        warn(f"{output} has no picture's suffix: it becomes a folder. For a file write -o {output}.png")
    read = functools.cache(read_input)  # standard input may be both a picture and its mask
    sources = {name: [read(str(path)) for path in paths] for name, paths in {"image": pictures, **further}.items()}
    jobs = pair(options, parameters, text=said or "", **sources)
    running.make(jobs, pictures, targets, earlier=earlier, repeat=repeat)


def _repeated(
    kind: type[Options], picture: Path, parameters: dict[str, Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Instruction and parameters of an earlier result, and all it says; flags given now come before its parameters."""
    from pixrt.options.stored import options_from

    earlier = read_parameters(picture)
    instruction, options = options_from(earlier, str(picture), kind)
    stored = dataclasses.asdict(options)
    if "preset" in parameters:  # it sets what the earlier result's parameters would say otherwise
        stored = {name: value for name, value in stored.items() if name not in PRESET_FIELDS}
    return instruction, stored | parameters, earlier
