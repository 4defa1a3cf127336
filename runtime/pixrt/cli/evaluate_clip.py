"""`pixrt eval clip`: edits of photographs in CLIP's space. The one evaluation that needs PyTorch."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pixrt.cli.console import say
from pixrt.cli.display import add_row, print_table, progress
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.measuring import MEASURING, ABundle, AJsonFile, AnOverwrite, APlotFile, numbers
from pixrt.cli.outputs import require_figures, write_json, write_png
from pixrt.cli.parameters import BUDGET, with_flags, with_session
from pixrt.errors import OptionError
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions

PAPER = EditOptions(seed=0, guidance_scale=7.5)  # as published
PAPER_SWEEP_IMAGE = "1.0,1.2,1.4,1.6,1.8,2.0,2.2"


@with_session(SessionOptions(max_batch=4), MEASURING)
@with_flags(EditOptions, defaults=PAPER, without=(BUDGET,))
def clip(
    bundle: ABundle,
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR|FILE",
            help="A training set with captions, such as the original's; or a .jsonl of image, instruction,"
            " input_caption, output_caption.",
        ),
    ],
    clip_folder: Annotated[
        Path, typer.Option("--clip", metavar="DIR", help="A CLIPModel in transformers' format (ViT-L/14 as published).")
    ],
    preprocessing: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="original: as the published script, pictures from -1 to 1; correct: from 0 to 1. Never mix them.",
        ),
    ],
    samples: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many, drawn at random; all when not given.")
    ] = None,
    sweep_image: Annotated[str, typer.Option(metavar="LIST", help="Image guidance scales.")] = PAPER_SWEEP_IMAGE,
    json_file: AJsonFile = None,
    plot: APlotFile = None,
    overwrite: AnOverwrite = False,
    lora: LoraFlag = None,
    *,
    session: SessionOptions,
    parameters: dict[str, Any],
) -> None:
    """Edit photographs: CLIP image similarity against direction similarity."""
    require_packages("matplotlib", "scipy", "torch", "transformers", extra="train", purpose="this evaluation")
    from pixrt.editor.editor import Editor
    from pixrt_export.evaluation.accuracy import editor_at_scales
    from pixrt_export.evaluation.clip import clip_curve
    from pixrt_export.evaluation.clip_data import draw_samples, read_captioned_edits
    from pixrt_export.evaluation.clip_network import ClipNetwork
    from pixrt_export.evaluation.files import describe_model
    from pixrt_export.evaluation.plots import clip_plot

    require_figures(json_file, plot, overwrite=overwrite)
    if "image_guidance_scale" in parameters:
        raise OptionError("--image-guidance-scale is what the curve is over", remedy="Give --sweep-image")
    seed = parameters.pop("seed", 0)
    parameters = {"guidance_scale": PAPER.guidance_scale, **parameters}
    scales = numbers("--sweep-image", "image_guidance_scale", sweep_image)
    chosen = draw_samples(read_captioned_edits(data), samples, seed=seed)
    network = ClipNetwork(clip_folder, preprocessing)  # type: ignore[arg-type]  # it checks the name
    loras = lora_inputs(lora)
    with Editor(bundle, session, loras=loras) as editor, progress("editing") as on_progress:
        options = EditOptions(**parameters).resolve(editor.manifest.defaults, editor.levers)
        points = clip_curve(
            editor_at_scales(editor, parameters, seed=seed),  # type: ignore[arg-type]  # EditOptions checked them
            chosen,
            network,
            scales,
            parameters["guidance_scale"],
            batch=session.max_batch,
            on_progress=on_progress,
        )
        about = {
            **describe_model(editor.manifest, options, editor.loras),
            "clip": network.name,
            "preprocessing": preprocessing,
        }
        title = f"{editor.manifest.name}, {len(chosen)} samples, preprocessing {preprocessing}"
    if json_file is not None:
        measured = {"clip": network.name, "preprocessing": preprocessing, "samples": len(chosen), "seed": seed}
        write_json(json_file, {**about, **measured, "points": [point.facts() for point in points]}, overwrite=overwrite)
    if plot is not None:
        write_png(plot, clip_plot(points, title=title), overwrite=overwrite)
    table = Table("image guidance", "image similarity", "direction similarity", box=None)
    for point in points:
        scale = f"{point.image_guidance_scale:g}"
        add_row(table, scale, point.image_similarity.text(4), point.direction_similarity.text(4))
    print_table(table)
    say(f"{title}, guidance {parameters['guidance_scale']:g}")
