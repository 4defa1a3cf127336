"""The latents of a training set, computed once and kept on disk in parts, so that an interrupted pass goes on."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from numpy.typing import NDArray

from pixrt.files import atomic_write, make_folder
from pixrt_export.data.pairs import Pair, PairSet
from pixrt_export.training.pictures import to_tensor

PART = 512  # samples in one file
BATCH = 8  # few enough for a processor's cache: on two cores half the time of 32


@dataclass(frozen=True, slots=True)
class Latents:
    """The posterior means of every pair, not scaled: source and target; a source that is absent is zeros."""

    parts: Sequence[NDArray[np.float16]]  # [PART, 2, C, h, w] each, the last one shorter

    def __getitem__(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """FP32 [N, 2, C, h, w]."""
        return np.stack([self.parts[index // PART][index % PART] for index in indices]).astype(np.float32)


def cached_latents(
    vae: AutoencoderKL | AutoencoderTiny,
    pairs: PairSet,
    size: int,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> Latents:
    """Open the latents of `pairs` at `size` pixels in `folder`, after computing what is not there yet.

    They are kept by the set's fingerprint, the size and the autoencoder's weights. `on_progress` is told how many
    samples are done, of how many. Raises PictureError and OutputError.
    """
    home = folder / _identity(vae, pairs, size)
    make_folder(home)
    files = [home / f"{start // PART:06d}.npy" for start in range(0, len(pairs), PART)]
    for number, file in enumerate(files):
        if not file.is_file():
            indices = range(number * PART, min(len(pairs), (number + 1) * PART))
            buffer = io.BytesIO()
            np.save(buffer, _encode(vae, [pairs.load(index, size) for index in indices]), allow_pickle=False)
            with atomic_write(file) as out:
                out.write(buffer.getbuffer())
        on_progress(min(len(pairs), (number + 1) * PART), len(pairs))
    return Latents([np.load(file, mmap_mode="r", allow_pickle=False) for file in files])


@torch.no_grad()
def _encode(vae: AutoencoderKL | AutoencoderTiny, pairs: Sequence[Pair]) -> NDArray[np.float16]:
    encoded = []
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        pictures = [picture for pair in batch for picture in (_or_black(pair), pair.target)]
        tensor = to_tensor(np.stack(pictures)).to(vae.device, memory_format=torch.channels_last)
        means = encoded_mean(vae, tensor)
        both = means.reshape(len(batch), 2, *means.shape[1:]).cpu().numpy()
        both[[i for i, pair in enumerate(batch) if pair.source is None], 0] = 0
        encoded.append(both.astype(np.float16))
    return np.concatenate(encoded)


def encoded_mean(vae: AutoencoderKL | AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """What an autoencoder makes of pictures [B, 3, H, W]: [B, C, h, w]; a tiny one has no distribution."""
    encoded = vae.encode(pictures)
    mean: torch.Tensor = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
    return mean


def _or_black(pair: Pair) -> NDArray[np.uint8]:
    return np.zeros_like(pair.target) if pair.source is None else pair.source


def _identity(vae: AutoencoderKL | AutoencoderTiny, pairs: PairSet, size: int) -> str:
    digest = hashlib.sha256(f"{pairs.fingerprint()} {size} {len(pairs)}".encode())
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().float().contiguous().numpy().data)
    return digest.hexdigest()[:24]
