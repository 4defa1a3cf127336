"""What an export is asked to do. Light: imports no PyTorch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pixrt.bundles.manifest import Precision
from pixrt.errors import OptionError
from pixrt.lora.merging import LoraInput
from pixrt.options.choices import SCHEDULERS
from pixrt.options.tasks import EditOptions

# 17 brings LayerNormalization; 18 is the newest that PyTorch's tracing exporter, optimum and TensorRT 10 all share.
OPSET = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """An export of one checkpoint.

    Attributes:
        checkpoint: a diffusers-format folder, or a hub id.
        output: the bundle's folder.
        precision: of weights and activations in the graphs.
        name: of the bundle; the output folder's name by default.
        notice: shown with every result of the model.
        loras: LoRA files, or pairs of a file and a scale, to merge into the weights.
        allow_pickle: also read `.bin` weights, with PyTorch's `weights_only` loading.
        vae: where to take the VAE from instead: a diffusers folder or hub id, of a VAE alone or of a checkpoint.
        source_scaling_factor: of the VAE that an AutoencoderTiny stands in for; the replaced VAE's own by default.
        without_source: an edit checkpoint as the text-to-image network that it is for source latents of zero.
        steps, guidance_scale, image_guidance_scale, scheduler: the bundle's defaults; the original's, and the
            checkpoint's own scheduler, where None.
        fused_step: also write the fused step graph: see `pixrt.core.fused`.
        overwrite: replace an existing bundle.

    Raises OptionError on construction.
    """

    checkpoint: str
    output: Path
    precision: Precision = "fp32"
    name: str | None = None
    notice: str = ""
    loras: tuple[LoraInput, ...] = ()
    allow_pickle: bool = False
    vae: str | None = None
    source_scaling_factor: float | None = None
    without_source: bool = False
    steps: int = 100
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    scheduler: str | None = None
    fused_step: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise OptionError(f"precision is {self.precision!r}", remedy=f"Choose {', '.join(get_args(Precision))}")
        if self.scheduler is not None and self.scheduler not in SCHEDULERS:
            raise OptionError(f"scheduler is {self.scheduler!r}", remedy=f"Choose one of {', '.join(SCHEDULERS)}")
        if self.source_scaling_factor is not None and not 0 < self.source_scaling_factor < math.inf:
            raise OptionError(
                f"source_scaling_factor is {self.source_scaling_factor}", remedy="It must be above 0 and finite"
            )
        EditOptions(
            steps=self.steps, guidance_scale=self.guidance_scale, image_guidance_scale=self.image_guidance_scale
        )
