"""Learning an autoencoder: pictures through a narrow place and back."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pixrt_export.data.pairs import PairSet
from pixrt_export.training.latents import encoded_mean
from pixrt_export.training.loop import Preview
from pixrt_export.training.options import AutoencoderOptions
from pixrt_export.training.pictures import to_pictures, to_tensor


class NoisyAutoencoder(nn.Module):
    """An autoencoder that decodes from what it encodes to, the mean of a posterior, and a given noise."""

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pictures: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pictures [B, 3, H, W] in [-1, 1] and noise [B, C, h, w] to pictures, posterior means and log variances.

        A tiny autoencoder has no variances.
        """
        encoded = self.vae.encode(pictures)
        if isinstance(encoded, AutoencoderTinyOutput):
            return self.vae.decode(encoded.latents + noise).sample, encoded.latents
        posterior = encoded.latent_dist
        return self.vae.decode(posterior.mean + noise).sample, posterior.mean, posterior.logvar


class AutoencoderJob:
    """Reconstruct the targets of a training set, and of a share of its samples the sources.

    The latents get a little noise of a fixed size rather than a full posterior sample: with few channels a posterior
    that starts wide wipes out flat colours. The log variance is led to that same size, so that a posterior sample
    decodes as well as the mean does.
    """

    def __init__(
        self, vae: AutoencoderKL | AutoencoderTiny, pairs: PairSet, size: int, options: AutoencoderOptions
    ) -> None:
        self.network = NoisyAutoencoder(vae)
        self.vae, self.pairs, self.size, self.options = vae, pairs, size, options
        downsamples = len(vae.config["block_out_channels"]) - 1  # diffusers registers it for a tiny one too
        self.latent_shape = (vae.config["latent_channels"], size >> downsamples, size >> downsamples)

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, samples: Sequence[int]) -> torch.Tensor:
        """Pictures [B, 3, H, W] in [-1, 1]."""
        return to_tensor(np.stack([self._picture(index) for index in samples]))

    def loss(self, network: nn.Module, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Mean of absolute and squared error, also at edges, and what keeps latents small and their variance fixed."""
        if self.options.recolor:
            chosen = torch.rand(len(batch), generator=generator) < self.options.recolor
            batch = torch.where(chosen[:, None, None, None], recolored(batch, generator), batch)
        noise = torch.randn((len(batch), *self.latent_shape), generator=generator) * self.options.latent_noise
        device = next(network.parameters()).device
        batch = batch.to(device)
        made, mean, *logvars = network(batch, noise.to(device))
        wanted = 2 * float(np.log(self.options.latent_noise or 1e-3))
        error = made.float() - batch
        latents = mean.square().mean()
        for logvar in logvars:
            latents = latents + (logvar - wanted).square().mean()
        loss: torch.Tensor = error.abs().mean() + error.square().mean() + self.options.latent_decay * latents
        if self.options.edges:
            loss = loss + self.options.edges * (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean())
        return loss

    def _picture(self, index: int) -> NDArray[np.uint8]:
        pair = self.pairs.load(index, self.size)
        return pair.target if index % 100 >= 100 * self.options.sources or pair.source is None else pair.source

    def preview(self) -> Preview:
        """The first pictures of the set above what comes back."""
        batch = self.load(range(min(12, len(self.pairs)))).to(next(self.network.parameters()).device)
        made = self.vae.decode(encoded_mean(self.vae, batch)).sample
        rows = [np.concatenate(list(to_pictures(part)), axis=1) for part in (batch, made)]
        return Preview(Image.fromarray(np.concatenate(rows)))


def recolored(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] with channels permuted, inverted, flattened and shifted at random, in [-1, 1].

    An autoencoder that has seen only a few colours snaps to them.
    """
    count = len(pictures)
    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    permuted = torch.gather(pictures, 1, order[:, :, None, None].expand_as(pictures))
    gain, shift, sign = torch.rand(3, count, 3, 1, 1, generator=generator)
    gain = 0.4 + 0.6 * gain
    changed: torch.Tensor = permuted * gain * torch.where(sign < 0.5, -1, 1) + (2 * shift - 1) * (1 - gain)
    return changed
