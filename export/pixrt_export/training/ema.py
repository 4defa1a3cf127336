"""Averaged weights: an exponential moving average that starts fast. Shapes and dtypes are those of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class AveragedWeights:
    """The moving average of a network's trainable parameters.

    At step t the decay is min(decay, (1 + t) / (10 + t)), so that the average of a short run is not its first weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: p.detach().clone() for name, p in trainable(network)} if decay else {}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the weights after step `step`, counted from 0."""
        if self.tensors:
            decay = min(self.decay, (1 + step) / (10 + step))
            named = trainable(network)  # a checkpoint has them in another order
            torch._foreach_lerp_([self.tensors[name] for name, _ in named], [p.detach() for _, p in named], 1 - decay)

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[None]:
        """Put the averaged weights into the network for as long as the context lasts."""
        kept = {name: p.detach().clone() for name, p in trainable(network)} if self.tensors else {}
        copy_into(network, self.tensors)
        try:
            yield
        finally:
            copy_into(network, kept)


def trainable(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name."""
    return [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]


@torch.no_grad()
def copy_into(network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy tensors into the trainable parameters of their names."""
    for name, parameter in trainable(network):
        if name in tensors:
            parameter.copy_(tensors[name])
