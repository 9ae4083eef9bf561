"""Devices by name, and tensors on their way to a GPU without the host waiting for them."""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.errors import UserError


def present(device: torch.device | str, *, setting: str = "device") -> torch.device:
    """The device of a name such as cuda:1; raises UserError for one that isn't there, or that has no such name."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"{setting}={device} is none of auto, cpu, cuda, cuda:<index>") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        raise UserError(
            f"{setting}={device}: torch sees {count} CUDA GPUs here; use {setting}=cpu or {setting}=auto"
        )
    return found


def upload(x: Tensor, device: torch.device | str) -> Tensor:
    """x on `device`; from the CPU to a GPU by way of pinned memory, so that nobody waits for the copy."""
    device = torch.device(device)
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
