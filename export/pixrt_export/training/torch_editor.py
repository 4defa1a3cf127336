"""Editing with PyTorch networks while they are trained: the runtime's own plan and loop, a PyTorch network inside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel

from pixrt.backends.host import HostCall
from pixrt.backends.protocol import Array, BoundCall
from pixrt.bundles.manifest import TensorSpec
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.buffers import Workspace
from pixrt.core.pipeline import denoise
from pixrt.core.plan import make_schedule, plan_batch
from pixrt.options.tasks import EditOptions
from pixrt.tasks.tasks import edit_conditioning
from pixrt_export.training.pictures import to_pictures, to_tensor


class TorchUNet:
    """A UNet in PyTorch as one of the runtime's engines."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet
        config = unet.config
        self.inputs = (
            TensorSpec("sample", "float32", ("rows", config["in_channels"], "height", "width")),
            TensorSpec("timestep", "float32", ("rows",)),
            TensorSpec("encoder_hidden_states", "float32", ("rows", "tokens", config["cross_attention_dim"])),
        )
        self.outputs = (TensorSpec("out_sample", "float32", ("rows", config["out_channels"], "height", "width")),)

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """See `Engine.allocate`."""
        return np.zeros(shape, dtype)

    def bind(self, tensors: Mapping[str, Array], held: Mapping[str, int] | None = None) -> BoundCall:
        """Tie the network to these arrays: it reads and writes them where they are."""
        sample, timestep, context, out = (
            torch.from_numpy(tensors[spec.name]) for spec in (*self.inputs, *self.outputs)
        )

        def run() -> None:
            device = self.unet.device
            with torch.no_grad():
                out.copy_(self.unet(sample.to(device), timestep.to(device), context.to(device)).sample)

        return HostCall(tensors, held, run)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class TorchEditor:
    """The networks of a checkpoint as an edit function; `options` must be resolved (steps, scales and scheduler)."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    tokenizer: Tokenizer
    scheduler: dict[str, Any]
    options: EditOptions

    @torch.no_grad()
    def __call__(self, pictures: NDArray[np.uint8], texts: Sequence[str]) -> NDArray[np.uint8]:
        """Edit pictures uint8 [B, H, W, 3], one text each; picture k gets the seed k."""
        device = self.unet.device
        sources = self.vae.encode(to_tensor(pictures).to(device)).latent_dist.mean.cpu().float().numpy()
        ids = torch.tensor([self.tokenizer.encode(text).ids for text in ("", *texts)])
        null, *contexts = self.text_encoder(ids.to(device)).last_hidden_state.cpu().float().numpy()
        schedule = make_schedule([self.options] * len(texts), self.scheduler)
        workspace = Workspace(TorchUNet(self.unet), len(texts), sources.shape[2:], ids.shape[1])
        plan = plan_batch(workspace, schedule, range(len(texts)), edit_conditioning(contexts, null, list(sources)))
        for _ in denoise(plan):
            pass
        latents = torch.from_numpy(plan.latents()) / self.vae.config["scaling_factor"]
        return to_pictures(self.vae.decode(latents.to(device)).sample)
