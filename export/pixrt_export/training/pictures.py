"""Pictures as PyTorch sees them."""

import numpy as np
import torch
from numpy.typing import NDArray


def to_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures uint8 [B, H, W, 3] to FP32 [B, 3, H, W] in [-1, 1]."""
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """FP32 [B, 3, H, W] in [-1, 1] to pictures uint8 [B, H, W, 3], rounded."""
    scaled = ((tensor.float() + 1) * 127.5).round().clamp(0, 255)
    pictures: NDArray[np.uint8] = scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pictures
