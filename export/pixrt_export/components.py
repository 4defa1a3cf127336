"""Each network of a bundle as optimum's exporter wants it: a module, and a config naming its tensors.

optimum's own configs are extended if a runtime needs more: the UNet's `timestep` is FP32 and one per sample, the VAE
encoder gives the posterior mean, and the tensor names and free dimensions are those of the bundle's tensor table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from optimum.exporters.onnx.model_configs import (
    CLIPTextOnnxConfig,
    UNetOnnxConfig,
    VaeDecoderOnnxConfig,
    VaeEncoderOnnxConfig,
)

from pixrt.bundles.manifest import Component
from pixrt.errors import CheckpointError
from pixrt_export.checkpoint import Checkpoint

# Rows of embeddings that the text encoder takes beside its own; a text has 75 at most.
MOST_GIVEN = 128
Inputs = dict[str, torch.Tensor]
Axes = dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Traceable:
    """A network ready to be traced and checked.

    `inputs(batch, height, width)` makes random inputs for a picture of that many latents; `output` names the output.
    """

    component: Component
    module: torch.nn.Module
    config: Any
    inputs: Callable[[int, int, int], Inputs]
    output: str

    @property
    def weights(self) -> torch.nn.Module:
        """The module whose parameters have the names of the checkpoint's: encoder and decoder are of one VAE."""
        return getattr(self.module, "vae", self.module)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a bundle's latents are scaled, by one rule whatever the VAE.

    The encoder graph gives unscaled latents and the decoder graph takes them. Times `factor` they are the loop's; times
    `vae` they are what the VAE itself encodes to and decodes from.
    """

    factor: float
    vae: float = 1.0


def traceables(checkpoint: Checkpoint, scaling: Scaling) -> Iterator[Callable[[], Traceable]]:
    """One loader per component, so that only one network is in memory at a time."""
    yield lambda: _text_encoder(checkpoint)
    yield lambda: _vae_encoder(checkpoint, scaling.vae)
    yield lambda: _vae_decoder(checkpoint, scaling.vae)
    yield lambda: _unet(checkpoint, scaling.factor)


def scaling_of(checkpoint: Checkpoint, given: float | None) -> Scaling:
    """How the checkpoint's latents are scaled; `given` is the factor of the VAE that an AutoencoderTiny stands in for.

    AutoencoderTiny encodes to *scaled* latents, and its own config says 1.0, so if the UNet takes unscaled ones too,
    the factor must be given or be that of the VAE it replaces. Raises CheckpointError if it is missing, or given
    without need.
    """
    if checkpoint.vae_kind == "AutoencoderKL":
        if given is not None:
            raise CheckpointError(
                "a source scaling factor is given, and an AutoencoderKL needs none",
                remedy="Leave --source-scaling-factor out",
            )
        return Scaling(checkpoint.scaling_factor)
    factor = given or checkpoint.known_factor
    if factor is None and checkpoint.in_channels != checkpoint.latent_channels:
        raise CheckpointError(
            "an AutoencoderTiny encodes to scaled latents, the source latents of an edit are unscaled, and its config"
            " does not say the factor between them",
            remedy="Pass --source-scaling-factor: the scaling_factor of the full VAE, 0.18215 for Stable Diffusion 1.x",
        )
    factor = factor or 1.0
    # diffusers multiplies what any VAE encodes to by its own config's factor for the loop: 1.0 for TAESD.
    return Scaling(factor, factor / checkpoint.scaling_factor)


def _pictures(batch: int, height: int, width: int) -> torch.Tensor:
    """`[B, 3, H, W]` in [-1, 1], noise, nearly white and nearly black in turn.

    Networks reach their extremes on plain pictures. Not quite plain, for group normalisation of no variance at all is
    rounding made large.
    """
    ramp = torch.linspace(0.7, 1.0, width).expand(3, height, width)
    kinds = [torch.rand(3, height, width) * 2 - 1, ramp, -ramp]
    return torch.stack([kinds[(item + batch) % len(kinds)] for item in range(batch)])


class _Encoder(torch.nn.Module):
    """Pixels to the unscaled posterior mean."""

    def __init__(self, vae: Any, scale: float) -> None:
        super().__init__()
        self.vae, self.scale, self.config = vae, scale, vae.config

    def forward(self, sample: torch.Tensor) -> Any:
        encoded = self.vae.encode(sample)
        mean = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents / self.scale
        return {"latent_sample": mean}


class _Decoder(torch.nn.Module):
    """Unscaled latents to pixels."""

    def __init__(self, vae: Any, scale: float) -> None:
        super().__init__()
        self.vae, self.scale, self.config = vae, scale, vae.config

    def forward(self, latent_sample: torch.Tensor) -> Any:
        own = latent_sample if self.scale == 1.0 else latent_sample * self.scale
        return {"sample": self.vae.decode(own).sample}


class _GivenRows(torch.nn.Embedding):
    """A table of embeddings in which an id below zero is a row of another one: -1 is the first of `given`."""

    given: torch.Tensor

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        is_given, first = ids < 0, torch.zeros((), dtype=ids.dtype)
        own = super().forward(torch.where(is_given, first, ids))
        given = torch.nn.functional.embedding(torch.where(is_given, -1 - ids, first), self.given)
        return torch.where(is_given[..., None], given, own)


class _TextEncoder(torch.nn.Module):
    """Token ids to the last hidden state, with room for embeddings that are given with them, `[MOST_GIVEN, D]`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text_model, self.config = model.text_model, model.config
        embeddings = self.text_model.embeddings
        table = embeddings.token_embedding.weight
        embeddings.token_embedding = _GivenRows(table.shape[0], table.shape[1], _weight=table)

    def forward(self, input_ids: torch.Tensor, embeddings: torch.Tensor) -> Any:
        self.text_model.embeddings.token_embedding.given = embeddings
        return {"last_hidden_state": self.text_model(input_ids=input_ids).last_hidden_state}


def _text_encoder(checkpoint: Checkpoint) -> Traceable:
    module = _TextEncoder(checkpoint.load("text_encoder"))
    tokens, text = checkpoint.tokenizer().max_length, module.config

    class Config(CLIPTextOnnxConfig):  # type: ignore[misc]
        @property
        def outputs(self) -> Axes:
            return {"last_hidden_state": {0: "batch", 1: "tokens"}}

        @property
        def inputs(self) -> Axes:
            return {"input_ids": {0: "batch", 1: "tokens"}, "embeddings": {}}

        def generate_dummy_inputs(self, framework: str = "pt", **kwargs: Any) -> Inputs:
            return inputs(2, 0, 0)

    def inputs(batch: int, height: int, width: int) -> Inputs:
        ids = torch.randint(text.vocab_size, (batch, tokens))
        ids[:, ::5] = torch.randint(-MOST_GIVEN, 0, ids[:, ::5].shape)
        return {
            "input_ids": ids,
            "embeddings": torch.randn(MOST_GIVEN, text.hidden_size) * 0.02,  # about as large as CLIP's own
        }

    config = Config(text, task="feature-extraction")
    return Traceable(Component.TEXT_ENCODER, module.eval(), config, inputs, "last_hidden_state")


def _unet(checkpoint: Checkpoint, factor: float) -> Traceable:
    module = checkpoint.load("unet")
    tokens = checkpoint.tokenizer().max_length
    unet = module.config
    channels, latents = checkpoint.in_channels, checkpoint.latent_channels
    levels = len(unet.block_out_channels) - 1

    class Config(UNetOnnxConfig):  # type: ignore[misc]
        @property
        def inputs(self) -> Axes:
            return {
                "sample": {0: "batch", 2: "height", 3: "width"},
                "timestep": {0: "batch"},
                "encoder_hidden_states": {0: "batch", 1: "tokens"},
            }

        @property
        def outputs(self) -> Axes:
            return {"out_sample": {0: "batch", 2: "height", 3: "width"}}

        def generate_dummy_inputs(self, framework: str = "pt", **kwargs: Any) -> Inputs:
            # diffusers decides while tracing whether upsampling doubles or follows the skip connection's size. A size
            # that does not halve evenly makes it follow, which is right for every size.
            side = 2**levels + 1
            return inputs(2, side, side)

    def inputs(batch: int, height: int, width: int) -> Inputs:
        sample = torch.randn(batch, channels, height, width)
        if channels == 2 * latents:  # the source is unscaled
            sample[:, latents:] /= factor
        return {
            "sample": sample,
            "timestep": torch.rand(batch) * 999,
            "encoder_hidden_states": torch.randn(batch, tokens, unet.cross_attention_dim),
        }

    config = Config(module.config, task="semantic-segmentation")
    return Traceable(Component.UNET, module, config, inputs, "out_sample")


def _vae_encoder(checkpoint: Checkpoint, scale: float) -> Traceable:
    module = _Encoder(checkpoint.load("vae"), scale)
    pixels = checkpoint.vae_scale

    class Config(VaeEncoderOnnxConfig):  # type: ignore[misc]
        @property
        def inputs(self) -> Axes:
            return {"sample": {0: "batch", 2: "height", 3: "width"}}

        @property
        def outputs(self) -> Axes:
            return {"latent_sample": {0: "batch", 2: "latent_height", 3: "latent_width"}}

        def generate_dummy_inputs(self, framework: str = "pt", **kwargs: Any) -> Inputs:
            return inputs(2, 8, 8)

    def inputs(batch: int, height: int, width: int) -> Inputs:
        return {"sample": _pictures(batch, height * pixels, width * pixels)}

    config = Config(module.config, task="semantic-segmentation")
    return Traceable(Component.VAE_ENCODER, module.eval(), config, inputs, "latent_sample")


def _vae_decoder(checkpoint: Checkpoint, scale: float) -> Traceable:
    vae = checkpoint.load("vae")
    module = _Decoder(vae, scale)
    encoder, pixels = _Encoder(vae, scale), checkpoint.vae_scale

    class Config(VaeDecoderOnnxConfig):  # type: ignore[misc]
        @property
        def inputs(self) -> Axes:
            return {"latent_sample": {0: "batch", 2: "latent_height", 3: "latent_width"}}

        @property
        def outputs(self) -> Axes:
            return {"sample": {0: "batch", 2: "height", 3: "width"}}

        def generate_dummy_inputs(self, framework: str = "pt", **kwargs: Any) -> Inputs:
            return inputs(2, 8, 8)

    def inputs(batch: int, height: int, width: int) -> Inputs:
        with torch.no_grad():
            return dict(encoder(_pictures(batch, height * pixels, width * pixels)))

    config = Config(module.config, task="semantic-segmentation")
    return Traceable(Component.VAE_DECODER, module.eval(), config, inputs, "sample")
