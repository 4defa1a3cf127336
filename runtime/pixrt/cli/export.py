"""`pixrt export`: a PyTorch checkpoint becomes a bundle. The one place where the runtime reaches for the exporter."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pixrt.bundles.manifest import Component
from pixrt.bundles.store import total_bytes
from pixrt.cli.console import say
from pixrt.cli.display import errors
from pixrt.cli.embeddings import EmbeddingFlag, embedding_inputs
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.parameters import with_flags
from pixrt_export.options import ExportOptions
from pixrt_export.triton import require_free, write_repository

_NEEDED = ("torch", "diffusers", "transformers", "optimum", "onnx", "onnxruntime")


@with_flags(ExportOptions)
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A diffusers-format folder, a hub id such as OWNER/NAME, or a single file."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The bundle's folder.")],
    lora: LoraFlag = None,
    embedding: EmbeddingFlag = None,
    example: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="An instruction that the model knows, for those who try it. Repeatable.",
            rich_help_panel="Bundle",
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Also put the bundle into a model repository of Triton's, for its Python backend.",
            rich_help_panel="Bundle",
        ),
    ] = None,
    *,
    parameters: dict[str, Any],
) -> None:
    """Export a checkpoint to a bundle of ONNX networks, each checked against PyTorch."""
    options = ExportOptions(
        checkpoint=checkpoint,
        output=output,
        loras=lora_inputs(lora),
        embeddings=embedding_inputs(embedding),
        examples=(*(example or ()),),
        **parameters,
    )
    if triton is not None:
        require_free(triton, options.name or output.name, overwrite=options.overwrite)
    export_checkpoint_to(options)
    if triton is not None:
        say(f"{write_repository(output, triton, overwrite=options.overwrite)}: a model of Triton's")


def export_checkpoint_to(options: ExportOptions) -> None:
    """Export with a progress line, and print how far each network is from PyTorch."""
    require_packages(*_NEEDED, extra="export", purpose="exporting")
    from pixrt_export import export_checkpoint

    with errors.status("exporting") as status:

        def on_progress(stage: str) -> None:
            status.update(stage)
            if not errors.is_terminal:
                errors.print(stage)

        report = export_checkpoint(options, on_progress=on_progress)
    for key, spec in report.manifest.components.items():
        component, check = Component(key), spec.check
        took = f"{report.seconds[component]:.1f} s, " if component in report.seconds else ""
        say(
            f"{component}: {took}against {report.manifest.reference(component)} max error {check.max_error:.1e},"
            f" mean {check.mean_error:.1e} (tolerance {check.tolerance:.0e})",
        )
        if spec.kept_fp32:
            say(f"  kept in FP32: {', '.join(spec.kept_fp32)}")
    for note in report.notes:
        say(f"note: {note}")
    size = total_bytes(report.manifest.files.values()) / 2**20
    say(f"{report.folder}: {options.precision}, {size:.0f} MiB")
