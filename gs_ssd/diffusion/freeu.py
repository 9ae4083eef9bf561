"""FreeU as the official SSD code applies it: by the channel count of the incoming hidden state.

Every resnet of the up blocks receives [hidden, skip] along the channels. With C the widest channel count,

    hidden has C channels:   first C/2 of hidden × b1,  low frequencies of skip × s1
    hidden has C/2 channels: first C/4 of hidden × b2,  low frequencies of skip × s2

diffusers' `enable_freeu` selects by up-block index instead, which touches other layers, so it is not equivalent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


def filter_low_frequencies(x: Tensor, scale: float) -> Tensor:
    """Multiply the central 2 × 2 bins of the shifted spectrum of x [B, C, h, w] by `scale`.

    Those are the frequencies −1 and 0 along both axes: four inner products with waves, and no transform.
    """
    # [h w, n], orthogonal columns of length 1 or so
    waves = _low_waves(x.shape[-2], x.shape[-1], x.dtype, x.device)
    flat = x.flatten(2)
    return x + (scale - 1) * (flat @ waves @ waves.T).unflatten(2, x.shape[-2:])


@cache
def _low_waves(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """W with W Wᵀ x = the real part of the lowest four bins of x: cosines and sines of their phases over √(h w).

    Kept for each size, where it is needed: every upload makes the host wait for the device.
    """
    row, column = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    waves = []
    for u in range(min(height, 2)):
        for v in range(min(width, 2)):
            phase = (2 * math.pi * (u * row[:, None] / height + v * column / width)).flatten()
            waves += [phase.cos(), phase.sin()] if u or v else [torch.ones_like(phase)]
    return (torch.stack(waves, dim=1) / (height * width) ** 0.5).to(device, dtype)


@contextmanager
def enable_freeu(
    unet: UNet2DConditionModel, *, b1: float = 1.1, b2: float = 1.1, s1: float = 0.9, s2: float = 0.2
) -> Iterator[UNet2DConditionModel]:
    """FreeU in the up blocks of `unet` while the context lasts."""
    widest = max(unet.config.block_out_channels)
    factors = {widest: (b1, s1), widest // 2: (b2, s2)}
    handles = []
    hidden = widest
    for block in unet.up_blocks:
        for resnet in block.resnets:
            if hidden in factors:
                handles.append(resnet.register_forward_pre_hook(_hook(hidden, *factors[hidden])))
            hidden = resnet.out_channels
    try:
        yield unet
    finally:
        for handle in handles:
            handle.remove()


def _hook(hidden: int, backbone: float, skip: float) -> Callable[[Any, tuple], tuple]:
    def scale_input(module: Any, inputs: tuple) -> tuple:
        x, *rest = inputs
        boosted, kept, skipped = x.split([hidden // 2, hidden - hidden // 2, x.shape[1] - hidden], dim=1)
        return (torch.cat([boosted * backbone, kept, filter_low_frequencies(skipped, skip)], dim=1), *rest)

    return scale_input
