"""FreeU as the official SSD code applies it: by the channel count of the incoming hidden state.

Every resnet of the up blocks receives [hidden, skip] along the channels. With C the widest channel count,

    hidden has C channels:   first C/2 of hidden × b1,  low frequencies of skip × s1
    hidden has C/2 channels: first C/4 of hidden × b2,  low frequencies of skip × s2

diffusers' `enable_freeu` selects by up-block index instead, which touches other layers, so it is not equivalent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


def filter_low_frequencies(x: Tensor, scale: float) -> Tensor:
    """Multiply the central 2 × 2 bins of the shifted spectrum of x [B, C, h, w] by `scale`."""
    # FFT in half precision exists only for sides that are powers of two.
    spectrum = torch.fft.fftshift(torch.fft.fft2(x.float()), dim=(-2, -1))
    mask = torch.ones(x.shape[-2:], device=x.device)
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    mask[row - 1 : row + 1, column - 1 : column + 1] = scale
    filtered = torch.fft.ifft2(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))).real
    return filtered.to(x.dtype)


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


def _hook(hidden: int, backbone: float, skip: float):
    def scale_input(module, inputs):
        x, *rest = inputs
        boosted, kept, skipped = x.split([hidden // 2, hidden - hidden // 2, x.shape[1] - hidden], dim=1)
        return (torch.cat([boosted * backbone, kept, filter_low_frequencies(skipped, skip)], dim=1), *rest)

    return scale_input
