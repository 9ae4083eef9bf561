"""Tensors on their way to a GPU, without the host waiting for them."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(x: Tensor, device: torch.device | str) -> Tensor:
    """x on `device`; from the CPU to a GPU by way of pinned memory, so that nobody waits for the copy."""
    device = torch.device(device)
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
