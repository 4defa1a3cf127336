"""What an export is asked to do. Light: imports no PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pixrt.bundles.instructions import fault_of_examples
from pixrt.bundles.manifest import INT8, Precision
from pixrt.errors import OptionError
from pixrt.options.choices import SCHEDULERS
from pixrt.options.fields import option, validate

if TYPE_CHECKING:
    from pixrt.lora.embeddings import EmbeddingInput
    from pixrt.lora.merging import LoraInput

SingleFilePrediction = Literal["epsilon", "v_prediction"]
Target = Literal["cpu", "openvino", "ort-cuda", "tensorrt"]
# 17 brings LayerNormalization; 18 is the newest that PyTorch's tracing exporter, optimum and TensorRT 10 all share.
OPSET = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """An export of one checkpoint. Validated on construction: OptionError.

    Attributes:
        checkpoint: a diffusers-format folder, a hub id, or a single file in the original layout.
        output: the bundle's folder.
        loras: LoRA files, or pairs of a file and a scale, to merge into the weights.
        embeddings: textual-inversion files, or pairs of a file and a token, to put into the text encoder.
        examples: instructions that the model knows, which a page shows to begin with.
    """

    checkpoint: str
    output: Path
    loras: "tuple[LoraInput, ...]" = ()
    embeddings: "tuple[EmbeddingInput, ...]" = ()
    examples: tuple[str, ...] = ()
    precision: Precision = option(
        "fp32",
        "fp32; fp16, weights and activations, for GPUs; fp16-weights, FP32 arithmetic, for CPUs; int8, the UNet, for"
        " OpenVINO; int8-weights, the UNet's, FP32 arithmetic.",
        kind="choice",
        choices=get_args(Precision),
        group="Bundle",
    )
    compact: bool = option(
        False,
        "Store an FP16 checkpoint's weights as they are, with FP32 arithmetic: half the size, the same results.",
        kind="flag",
        group="Bundle",
    )
    calibrate: str | None = option(
        None,
        "For int8: a folder of pictures and instructions, as for training; the built-in models' checkpoints need none.",
        kind="text",
        group="Calibration",
    )
    calibration_edits: int = option(
        16,
        "For int8: edits that are made; a quarter of them measures what was lost.",
        kind="whole",
        low=2,
        high=1000,
        group="Calibration",
    )
    calibration_seed: int = option(
        0, "For int8: the seed of the samples and their noise.", kind="whole", low=0, high=2**31, group="Calibration"
    )
    name: str | None = option(None, "The bundle's name; the output folder's by default.", kind="text", group="Bundle")
    notice: str = option("", "A line shown with every result of the model.", kind="text", group="Bundle")
    target: Target | None = option(
        None,
        "For which backend the UNet's attention is written: for ort-cuda as one node each, for which ONNX Runtime has"
        " fused kernels; for the others, and by default, as they fuse it.",
        kind="choice",
        choices=get_args(Target),
        group="Bundle",
        flag="--for",
    )
    fused_step: bool = option(
        False,
        "Also write the UNet with guidance and solver in one graph, for TensorRT.",
        kind="flag",
        group="Bundle",
    )
    deep_cache: bool = option(
        False,
        "Also write the UNet's last layers as a network of their own, for --cache-interval (DeepCache).",
        kind="flag",
        group="Bundle",
    )
    cache_branch_id: int = option(
        0,
        "Where --deep-cache cuts the UNet: at this skip connection, counted from outside; 0 is the least work.",
        kind="whole",
        low=0,
        high=63,
        group="Bundle",
    )
    overwrite: bool = option(False, "Replace an existing bundle.", kind="flag", group="Bundle")
    defaults_from: str | None = option(
        None,
        "Keep another bundle's defaults, notice and examples, where no flag says others: its folder or name.",
        kind="text",
        group="Defaults of the bundle",
    )
    steps: int | None = option(
        None, "Steps; 100 when not given.", kind="whole", low=1, high=1000, group="Defaults of the bundle"
    )
    guidance_scale: float | None = option(
        None, "Guidance scale; 7.5 when not given.", kind="number", low=0, high=100, group="Defaults of the bundle"
    )
    image_guidance_scale: float | None = option(
        None,
        "Image guidance scale; 1.5 when not given.",
        kind="number",
        low=0,
        high=100,
        group="Defaults of the bundle",
    )
    scheduler: str | None = option(
        None,
        "Scheduler; the checkpoint's own when not given.",
        kind="choice",
        choices=SCHEDULERS,
        group="Defaults of the bundle",
    )
    vae: str | None = option(
        None,
        "Take the VAE from another diffusers folder or hub id, of a VAE or of a checkpoint: AutoencoderKL or"
        " AutoencoderTiny.",
        kind="text",
        group="Checkpoint",
    )
    source_scaling_factor: float | None = option(
        None,
        "For an AutoencoderTiny: the scaling factor of the VAE it stands in for, where no config says.",
        kind="number",
        above=0,
        group="Checkpoint",
    )
    without_source: bool = option(
        False,
        "Export an edit checkpoint as the text-to-image network that it is for source latents of zero.",
        kind="flag",
        group="Checkpoint",
    )
    ema: bool = option(
        False, "Take the averaged weights (EMA) of a single file that has both.", kind="flag", group="Checkpoint"
    )
    prediction: SingleFilePrediction | None = option(
        None,
        "What the network of a single file predicts; found out if not given.",
        kind="choice",
        choices=get_args(SingleFilePrediction),
        group="Checkpoint",
    )
    allow_pickle: bool = option(
        False,
        "Read .bin and .ckpt weights too, with PyTorch's weights_only loading.",
        kind="flag",
        group="Checkpoint",
    )

    def __post_init__(self) -> None:
        validate(self)
        if self.compact and self.precision != "fp32":
            problem = f"compact is given, and precision is {self.precision}"
            raise OptionError(problem, remedy="Leave one of them out", option="compact")
        if self.fused_step and self.precision in INT8:
            problem = f"fused_step is given, and precision is {self.precision}, which TensorRT does not take"
            raise OptionError(problem, remedy="Leave one of them out", option="fused_step")
        if self.target == "ort-cuda" and self.precision in INT8:
            problem = f"target is {self.target}, and precision is {self.precision}, which that backend does not take"
            raise OptionError(problem, remedy="Choose --precision fp16 or fp32, or leave --for out", option="target")
        if self.calibrate is not None and self.precision != "int8":
            problem = f"calibrate is given, and precision is {self.precision}, which needs no calibration"
            raise OptionError(problem, remedy="Leave it out, or choose --precision int8", option="calibrate")
        if self.cache_branch_id and not self.deep_cache:
            problem = f"cache_branch_id is {self.cache_branch_id}, and deep_cache is not given"
            raise OptionError(problem, remedy="Give --deep-cache, or leave it out", option="cache_branch_id")
        if fault := fault_of_examples(self.examples):
            raise OptionError(fault, remedy="Say fewer, or shorter ones", option="example")
