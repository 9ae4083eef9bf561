"""A small UNet on the CPU as a frozen graph, its weights laid out once: the same numbers in two thirds of the time.

Small networks spend a good part of a call outside their products: in Python, and in laying out weights again. A trace
does away with both. It holds for any batch and any size, for the network's shapes depend on its input's alone.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gs_ssd.diffusion.text import TextCondition

if TYPE_CHECKING:
    from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior

LARGEST = (
    50e6  # parameters: above, the products are all that counts, and a second copy of the weights is dear
)


class _Plain(torch.nn.Module):
    """A prior's UNet with tensors in and a tensor out."""

    def __init__(self, prior: StableDiffusionPrior) -> None:
        super().__init__()
        self.unet = prior.unet  # whose weights the trace freezes
        self.call = prior.forward

    def forward(self, z_t: Tensor, time: Tensor, hidden: Tensor) -> Tensor:
        return self.call(z_t, time, TextCondition(hidden))


class TracedUNet:
    """Asks a prior's UNet through its trace, which the first call makes; what the trace doesn't know goes around it."""

    def __init__(self, prior: StableDiffusionPrior) -> None:
        self.prior = prior
        self.plain = _Plain(prior).eval()
        self.graph: torch.jit.ScriptModule | None = None

    def forget(self) -> None:
        self.graph = None

    def __call__(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> Tensor:
        if freeu or text.control is not None:
            return self.prior.ask(z_t, time, text, freeu)
        inputs = (z_t, time, text.hidden)
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
