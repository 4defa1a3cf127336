"""Learning to edit: what a UNet and a text encoder are taught, whole or by a LoRA (arXiv:2211.09800, section 3.2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from pixrt_export.data.pairs import PairSet
from pixrt_export.training.latents import Latents
from pixrt_export.training.loop import Preview
from pixrt_export.training.options import EditTrainingOptions


class EditNetwork(nn.Module):
    """Text encoder and UNet as one network, so that both can be trained."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, sample: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Noisy and source latents [B, 2C, h, w], timesteps [B] and token ids [B, L] to the prediction [B, C, h, w]."""
        sample = sample[:, : self.unet.config["in_channels"]]  # a text-to-image network sees no source
        prediction: torch.Tensor = self.unet(sample, timesteps, self.text_encoder(ids).last_hidden_state).sample
        return prediction


class EditBatch(NamedTuple):
    """Source latents as they are and target latents scaled, both FP32 [B, C, h, w], and token ids [B, L]."""

    source: torch.Tensor
    target: torch.Tensor
    ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class Prior:
    """What is to stay: for `share` of the samples the text is one of `ids` [M, L], and the network must match `before`.

    `before` is what the network predicted when training began; it needs no right answers, only instructions. Learning
    without forgetting (arXiv:1606.09282), with a purpose as the prior preservation of arXiv:2208.12242 has.
    """

    ids: torch.Tensor
    share: float
    before: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class EditJob:
    """Predict the noise, or v, of a noisy target from the source beside it and the instruction.

    `encode` gives the token ids of a text, `null` those of the empty one. A share of the samples loses its text, its
    source or both, so that the network learns the branches that guidance combines.
    """

    def __init__(
        self,
        network: EditNetwork,
        pairs: PairSet,
        latents: Latents,
        scheduler: DDPMScheduler,
        scaling_factor: float,
        encode: Callable[[str], Sequence[int]],
        options: EditTrainingOptions,
        preview: Callable[[], Preview],
        prior: Prior | None = None,
    ) -> None:
        self.network, self.pairs, self.latents, self.scheduler = network, pairs, latents, scheduler
        self.scaling_factor, self.encode, self.options, self.preview = scaling_factor, encode, options, preview
        self.prior = prior
        self.null = torch.tensor(encode(""))

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, samples: Sequence[int]) -> EditBatch:
        """The latents and the text of some samples."""
        both = torch.from_numpy(self.latents[samples])
        ids = torch.tensor([self.encode(self.pairs.instruction(index)) for index in samples])
        return EditBatch(both[:, 0], both[:, 1] * self.scaling_factor, ids)

    def loss(self, network: nn.Module, batch: EditBatch, generator: torch.Generator) -> torch.Tensor:
        """Mean square of the prediction's error."""
        source, target, ids = batch
        count, steps = len(target), self.scheduler.config["num_train_timesteps"]
        kept = torch.zeros(count, dtype=torch.bool)
        if self.prior:
            kept = torch.rand(count, generator=generator) < self.prior.share
            # The unedited picture stands for an answer that nobody has: noise hides what is different.
            target = torch.where(kept[:, None, None, None], source * self.scaling_factor, target)
            ids = torch.where(kept[:, None], _drawn(self.prior.ids, count, generator), ids)
        noise = torch.randn(target.shape, generator=generator)
        timesteps = torch.randint(0, steps, (count,), generator=generator)
        if self.options.last_timestep:
            # What a sampler sees first says nothing of the answer: what is learned there, later steps can only refine.
            last = torch.rand(count, generator=generator) < self.options.last_timestep
            timesteps = torch.where(last, steps - 1, timesteps)
        no_text, no_source = self.dropped(torch.rand(count, generator=generator))
        ids = torch.where(no_text[:, None], self.null, ids)
        source = torch.where(no_source[:, None, None, None], 0.0, source)
        noisy = self.scheduler.add_noise(target, noise, timesteps)
        wanted = noise
        if self.scheduler.config["prediction_type"] == "v_prediction":
            wanted = self.scheduler.get_velocity(target, noise, timesteps)
        device = next(network.parameters()).device
        sample = torch.cat([noisy, source], dim=1).to(device, memory_format=torch.channels_last)
        timesteps, ids = timesteps.to(device), ids.to(device)
        wanted = wanted.to(device)
        if self.prior and kept.any():
            wanted[kept] = self.prior.before(sample[kept], timesteps[kept], ids[kept]).float()
        predicted = network(sample, timesteps, ids)
        return nn.functional.mse_loss(predicted.float(), wanted)

    def dropped(self, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which of the samples lose their text and which their source, from uniform draws [B]."""
        text, image, both = self.options.drop_text, self.options.drop_image, self.options.drop_both
        lose_both = draws < both
        return lose_both | (draws >= 1 - text), lose_both | ((draws >= both) & (draws < both + image))


def _drawn(rows: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return rows[torch.randint(0, len(rows), (count,), generator=generator)]
