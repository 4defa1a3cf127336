"""What a training run is told: frozen dataclasses, checked once. Must not import PyTorch."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal, get_args

from pixrt.errors import OptionError
from pixrt.options.fields import option, validate

Precision = Literal["no", "fp16", "bf16"]
Decay = Literal["constant", "cosine"]
Targets = Literal["attention", "cross_attention"]
Weights = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long and how fast to learn; the same for every kind of training."""

    steps: int = option(10_000, "Optimiser steps.", kind="whole", low=1, group="Training")
    batch_size: int = option(32, "Samples of one forward pass on one device.", kind="whole", low=1, group="Memory")
    accumulate: int = option(
        1, "Forward passes added up before one optimiser step.", kind="whole", low=1, group="Memory"
    )
    learning_rate: float = option(
        1e-4, "The largest learning rate, after the warm-up.", kind="number", above=0, group="Training"
    )
    warmup_steps: int = option(
        100, "Steps over which the learning rate rises from 0.", kind="whole", low=0, group="Training"
    )
    decay: Decay = option(
        "constant",
        "What the learning rate does after the warm-up.",
        kind="choice",
        choices=get_args(Decay),
        group="Training",
    )
    weight_decay: float = option(0.01, "AdamW's decoupled weight decay.", kind="number", low=0, group="Training")
    max_grad_norm: float = option(
        1.0, "Gradients are scaled down to this norm.", kind="number", above=0, group="Training"
    )
    ema_decay: float = option(
        0.999, "Of the averaged weights, reached slowly; 0 = none.", kind="number", low=0, below=1, group="Training"
    )
    seed: int = option(0, "Of data order, noise and initial weights.", kind="whole", low=0, group="Training")
    mixed_precision: Precision = option(
        "no", "Arithmetic of the forward pass.", kind="choice", choices=get_args(Precision), group="Memory"
    )
    checkpoint_every: int = option(500, "Steps between two checkpoints.", kind="whole", low=1, group="Output")
    keep_checkpoints: int = option(2, "Checkpoints kept, the newest ones.", kind="whole", low=1, group="Output")
    weights: Weights = option(
        "fp32", "How the finished weights are stored.", kind="choice", choices=get_args(Weights), group="Output"
    )
    sample_every: int = option(
        1000, "Steps between two grids of samples; 0 = none.", kind="whole", low=0, group="Output"
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, slots=True)
class AutoencoderOptions(LoopOptions):
    """Training of the autoencoder."""

    latent_noise: float = option(
        0.05, "Standard deviation of the noise on the latents.", kind="number", low=0, group="Training"
    )
    latent_decay: float = option(
        1e-4, "Weight of the mean square of the latents.", kind="number", low=0, group="Training"
    )
    edges: float = option(
        0.0, "Weight of the error of the differences between neighbors.", kind="number", low=0, group="Training"
    )
    decoder_only: bool = option(
        False, "Keep the encoder, and so the latents of a trained UNet, as they are.", kind="flag", group="Training"
    )
    sources: float = option(
        0.0, "Share of samples whose source is learned.", kind="number", low=0, high=1, group="Training"
    )
    recolor: float = option(
        0.0, "Share of pictures that get other colors at random.", kind="number", low=0, high=1, group="Training"
    )


@dataclass(frozen=True, slots=True)
class EditTrainingOptions(LoopOptions):
    """Training of UNet and text encoder, or of a LoRA, on edits (arXiv:2211.09800, section 3.2)."""

    drop_text: float = option(
        0.05, "Share of samples that lose only their text.", kind="number", low=0, below=1, group="Training"
    )
    drop_image: float = option(
        0.05, "Share of samples that lose only their source.", kind="number", low=0, below=1, group="Training"
    )
    drop_both: float = option(0.05, "Share of samples that lose both.", kind="number", low=0, below=1, group="Training")
    last_timestep: float = option(
        0.0,
        "Share of samples at the last timestep alone, where sampling begins (arXiv:2409.11355).",
        kind="number",
        low=0,
        high=1,
        group="Training",
    )
    train_text_encoder: bool = option(False, "Train the text encoder too.", kind="flag", group="Training")
    zero_unseen: bool = option(False, "Zero the embeddings of tokens that no sample has.", kind="flag", group="Output")
    gradient_checkpointing: bool = option(False, "Less memory for more time.", kind="flag", group="Memory")

    def __post_init__(self) -> None:
        LoopOptions.__post_init__(self)
        drops = (self.drop_text, self.drop_image, self.drop_both)
        if sum(drops) >= 1:
            raise OptionError(f"drop_text, drop_image and drop_both are {drops}", remedy="Give shares of 1 in all")


@dataclass(frozen=True, slots=True)
class LoraOptions(EditTrainingOptions):
    """Training of a LoRA. With `train_text_encoder` the text encoder gets adapters too."""

    rank: int = option(16, "Rank of the change of every weight.", kind="whole", low=1, group="Training")
    alpha: int = option(16, "The change is multiplied by alpha / rank.", kind="whole", low=1, group="Training")
    lora_dropout: float = option(
        0.0, "Share of an adapter's inputs set to zero.", kind="number", low=0, below=1, group="Training"
    )
    targets: Targets = option(
        "attention",
        "Which of the UNet's layers get adapters.",
        kind="choice",
        choices=get_args(Targets),
        group="Training",
    )
    prior: str = option("", "File of instructions whose edits are to stay, one a line.", kind="text", group="Training")
    prior_share: float = option(
        0.5, "Share of samples spent on them, where there are any.", kind="number", low=0, below=1, group="Training"
    )


def learning_rate(options: LoopOptions, step: int) -> float:
    """The learning rate of step `step`, counted from 0: linear warm-up, then constant or half a cosine to 0."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.decay == "constant":
        return options.learning_rate
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return options.learning_rate * (1 + cos(pi * done)) / 2
