"""Editing with PyTorch networks while they are trained: the runtime's own tracks and pool, a PyTorch network inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel

from pixrt.backends.host import HostCall
from pixrt.backends.protocol import Array, BoundCall
from pixrt.bundles.manifest import TensorSpec
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.core.conditioning import Conditioning
from pixrt.core.pool import HostPool
from pixrt.core.rows import Rows
from pixrt.core.track import make_steps, make_track
from pixrt.maths.guidance import Branch
from pixrt.options.tasks import EditOptions
from pixrt_export.training.latents import encoded_mean
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
        return HostCall(tensors, held, self._prepare)

    def _prepare(self, arrays: Mapping[str, Array]) -> Callable[[], None]:
        sample, timestep, context, out = (torch.from_numpy(arrays[spec.name]) for spec in (*self.inputs, *self.outputs))

        def run() -> None:
            device = self.unet.device
            with torch.no_grad():
                out.copy_(self.unet(sample.to(device), timestep.to(device), context.to(device)).sample)

        return run

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class TorchEditor:
    """The networks of a checkpoint as an edit function; `options` must be resolved (steps, scales and scheduler)."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL | AutoencoderTiny
    tokenizer: Tokenizer
    scheduler: dict[str, Any]
    options: EditOptions

    @torch.no_grad()
    def __call__(self, pictures: NDArray[np.uint8], texts: Sequence[str]) -> NDArray[np.uint8]:
        """Edit pictures uint8 [B, H, W, 3], one text each; picture k gets the seed k."""
        device = self.unet.device
        sources = encoded_mean(self.vae, to_tensor(pictures).to(device)).cpu().float().numpy()
        ids = torch.tensor([self.tokenizer.encode(text).ids for text in ("", *texts)])
        null, *contexts = self.text_encoder(ids.to(device)).last_hidden_state.cpu().float().numpy()
        steps, shape = make_steps(self.options, self.scheduler), (sources.shape[1], *sources.shape[2:])
        rows = Rows(TorchUNet(self.unet), len(texts) * steps.most_branches, sources.shape[2:], ids.shape[1])
        pool = HostPool(rows, len(texts), shape)
        sees_source = self.unet.config["in_channels"] != sources.shape[1]
        for seed, (context, source) in enumerate(zip(contexts, sources, strict=True)):
            contexts_of = {Branch.TEXT: context, Branch.IMAGE: null, Branch.UNCOND: null}
            beside = {Branch.TEXT: source, Branch.IMAGE: source} if sees_source else {}
            conditioning = Conditioning(contexts_of, beside)
            pool.join(make_track(steps, seed, conditioning, shape))
        for _ in range(len(steps)):
            pool.step()
        states = np.stack([pool.leave(slot) for slot in range(len(texts))])
        latents = torch.from_numpy(states) / self.vae.config["scaling_factor"]
        return to_pictures(self.vae.decode(latents.to(device)).sample)
