"""What a training run is told: frozen dataclasses, checked once. Must not import PyTorch."""

from dataclasses import dataclass, field
from math import cos, pi
from typing import Literal, get_args

from pixrt.errors import OptionError

Precision = Literal["no", "fp16", "bf16"]
Decay = Literal["constant", "cosine"]
Targets = Literal["attention", "cross_attention"]
Weights = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long and how fast to learn; the same for every kind of training."""

    steps: int = field(default=10_000, metadata={"help": "optimiser steps"})
    batch_size: int = field(default=32, metadata={"help": "samples of one forward pass on one device"})
    accumulate: int = field(default=1, metadata={"help": "forward passes added up before one optimiser step"})
    learning_rate: float = field(default=1e-4, metadata={"help": "the largest learning rate, after the warm-up"})
    warmup_steps: int = field(default=100, metadata={"help": "steps over which the learning rate rises from 0"})
    decay: Decay = field(default="constant", metadata={"help": "what the learning rate does after the warm-up"})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's decoupled weight decay"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradients are scaled down to this norm"})
    ema_decay: float = field(default=0.999, metadata={"help": "of the averaged weights, reached slowly; 0 = none"})
    seed: int = field(default=0, metadata={"help": "of data order, noise and initial weights"})
    mixed_precision: Precision = field(default="no", metadata={"help": "arithmetic of the forward pass"})
    checkpoint_every: int = field(default=500, metadata={"help": "steps between two checkpoints"})
    keep_checkpoints: int = field(default=2, metadata={"help": "checkpoints kept, the newest ones"})
    weights: Weights = field(default="fp32", metadata={"help": "how the finished weights are stored"})
    sample_every: int = field(default=1000, metadata={"help": "steps between two grids of samples; 0 = none"})

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}", "Give 1 or more")
        for name in ("warmup_steps", "weight_decay", "sample_every", "seed"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}", "Give 0 or more")
        for name in ("learning_rate", "max_grad_norm"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}", "Give more than 0")
        _require(0 <= self.ema_decay < 1, f"ema_decay is {self.ema_decay}", "Give 0 or more and less than 1")
        for name, kind in (("decay", Decay), ("mixed_precision", Precision), ("weights", Weights)):
            known = get_args(kind)
            _require(getattr(self, name) in known, f"{name} is {getattr(self, name)!r}", f"Give one of {known}")


@dataclass(frozen=True, slots=True)
class AutoencoderOptions(LoopOptions):
    """Training of the autoencoder."""

    latent_noise: float = field(default=0.05, metadata={"help": "standard deviation of the noise on the latents"})
    latent_decay: float = field(default=1e-4, metadata={"help": "weight of the mean square of the latents"})
    recolor: float = field(default=0.0, metadata={"help": "share of pictures that get other colors at random"})

    def __post_init__(self) -> None:
        LoopOptions.__post_init__(self)
        for name in ("latent_noise", "latent_decay"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}", "Give 0 or more")
        _require(0 <= self.recolor <= 1, f"recolor is {self.recolor}", "Give a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class EditTrainingOptions(LoopOptions):
    """Training of UNet and text encoder, or of a LoRA, on edits (arXiv:2211.09800, section 3.2)."""

    drop_text: float = field(default=0.05, metadata={"help": "share of samples that lose their text alone"})
    drop_image: float = field(default=0.05, metadata={"help": "share of samples that lose their source alone"})
    drop_both: float = field(default=0.05, metadata={"help": "share of samples that lose both"})
    train_text_encoder: bool = field(default=False, metadata={"help": "train the text encoder too"})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "less memory for more time"})

    def __post_init__(self) -> None:
        LoopOptions.__post_init__(self)
        drops = (self.drop_text, self.drop_image, self.drop_both)
        _require(min(drops) >= 0 and sum(drops) < 1, f"drop_text, drop_image and drop_both are {drops}", "Give shares")


@dataclass(frozen=True, slots=True)
class LoraOptions(EditTrainingOptions):
    """Training of a LoRA. With `train_text_encoder` the text encoder gets adapters too."""

    rank: int = field(default=16, metadata={"help": "rank of the change of every weight"})
    alpha: int = field(default=16, metadata={"help": "the change is multiplied by alpha / rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "share of an adapter's inputs set to zero"})
    targets: Targets = field(default="attention", metadata={"help": "which of the UNet's layers get adapters"})
    prior: str = field(default="", metadata={"help": "file of instructions whose edits are to stay, one a line"})
    prior_share: float = field(default=0.5, metadata={"help": "share of samples spent on them, where there are any"})

    def __post_init__(self) -> None:
        EditTrainingOptions.__post_init__(self)
        _require(self.rank >= 1, f"rank is {self.rank}", "Give 1 or more")
        _require(0 <= self.prior_share < 1, f"prior_share is {self.prior_share}", "Give a share below 1")
        _require(self.alpha > 0, f"alpha is {self.alpha}", "Give more than 0")
        _require(0 <= self.lora_dropout < 1, f"lora_dropout is {self.lora_dropout}", "Give a share below 1")
        known = get_args(Targets)
        _require(self.targets in known, f"targets is {self.targets!r}", f"Give one of {', '.join(known)}")


def learning_rate(options: LoopOptions, step: int) -> float:
    """The learning rate of step `step`, counted from 0: linear warm-up, then constant or half a cosine to 0."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.decay == "constant":
        return options.learning_rate
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return options.learning_rate * (1 + cos(pi * done)) / 2


def _require(holds: bool, problem: str, remedy: str) -> None:
    if not holds:
        raise OptionError(problem, remedy=remedy)
