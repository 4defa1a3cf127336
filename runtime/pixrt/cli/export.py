"""`pixrt export`: a PyTorch checkpoint becomes a bundle. The one place where the runtime reaches for the exporter."""

from pathlib import Path
from typing import Annotated

import typer

from pixrt.bundles.manifest import Component, Precision
from pixrt.bundles.store import total_bytes
from pixrt.cli.console import errors, say
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.options.choices import SCHEDULERS

_NEEDED = ("torch", "diffusers", "transformers", "optimum", "onnx", "onnxruntime")


def export(
    checkpoint: Annotated[str, typer.Argument(help="A diffusers-format folder, or a hub id such as OWNER/NAME.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder.")],
    precision: Annotated[
        str,
        typer.Option(help="fp32; fp16, weights and activations, for GPUs; fp16-weights, FP32 arithmetic, for CPUs."),
    ] = "fp32",
    name: Annotated[str | None, typer.Option(help="The bundle's name; the output folder's by default.")] = None,
    notice: Annotated[str, typer.Option(help="A line shown with every result of the model.")] = "",
    steps: Annotated[int, typer.Option(help="Default steps of the bundle.")] = 100,
    guidance_scale: Annotated[float, typer.Option(help="Default guidance scale of the bundle.")] = 7.5,
    image_guidance_scale: Annotated[float, typer.Option(help="Default image guidance scale of the bundle.")] = 1.5,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Default scheduler of the bundle; the checkpoint's own when not given.",
            autocompletion=lambda: list(SCHEDULERS),
        ),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(help="Take the VAE from another diffusers folder or hub id: AutoencoderKL or AutoencoderTiny."),
    ] = None,
    source_scaling_factor: Annotated[
        float | None,
        typer.Option(
            help="For an AutoencoderTiny: the scaling factor of the VAE it stands in for, where no config says."
        ),
    ] = None,
    without_source: Annotated[
        bool,
        typer.Option("--without-source", help="Export an edit checkpoint as a text-to-image one: for no source."),
    ] = False,
    lora: LoraFlag = None,
    fused_step: Annotated[
        bool,
        typer.Option("--fused-step", help="Also write the UNet with guidance and solver in one graph, for TensorRT."),
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read .bin weights too, with PyTorch's weights_only loading.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Export a checkpoint to a bundle of ONNX networks, each checked against PyTorch."""
    require_packages(*_NEEDED, extra="export", purpose="exporting")
    from pixrt_export import ExportOptions, export_checkpoint

    options = ExportOptions(
        checkpoint=checkpoint,
        output=output,
        precision=_precision(precision),
        name=name,
        notice=notice,
        loras=lora_inputs(lora),
        allow_pickle=allow_pickle,
        vae=vae,
        source_scaling_factor=source_scaling_factor,
        without_source=without_source,
        steps=steps,
        guidance_scale=guidance_scale,
        image_guidance_scale=image_guidance_scale,
        scheduler=scheduler,
        fused_step=fused_step,
        overwrite=overwrite,
    )
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
            f"{component}: {took}against {component.reference} max error {check.max_error:.1e},"
            f" mean {check.mean_error:.1e} (tolerance {check.tolerance:.0e})",
        )
        if spec.kept_fp32:
            say(f"  kept in FP32: {', '.join(spec.kept_fp32)}")
    size = total_bytes(report.manifest.files.values()) / 2**20
    say(f"{report.folder}: {options.precision}, {size:.0f} MiB")


def _precision(value: str) -> Precision:
    return value  # type: ignore[return-value]  # ExportOptions checks it
