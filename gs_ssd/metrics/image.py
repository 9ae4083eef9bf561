"""Pixel metrics between paired renders."""

from __future__ import annotations

import math

from torch import Tensor


def psnr(image: Tensor, reference: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of images [..., 3] in [0, 1]; over the pixels of `mask` [...] only, if given.

    Infinite for equal images; NaN when the mask is empty.
    """
    squared = (image - reference).pow(2).mean(dim=-1)
    if mask is not None:
        squared = squared[mask]
    error = squared.mean().item() if squared.numel() else math.nan
    return math.inf if error == 0 else -10 * math.log10(error)
