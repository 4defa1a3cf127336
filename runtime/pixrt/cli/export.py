"""`pixrt export`: a PyTorch checkpoint becomes a bundle. The one place where the runtime reaches for the exporter."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[str, typer.Argument(help="A diffusers-format folder, or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder.")],
    precision: Annotated[str, typer.Option(help="fp32 or fp16.")] = "fp32",
) -> None:
    """Export a checkpoint to a bundle of ONNX networks, checked against PyTorch."""
    raise NotImplementedError
