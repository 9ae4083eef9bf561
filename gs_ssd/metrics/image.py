"""Pixel metrics between paired pictures in [0, 1].

MSE   mean (x − y)²
PSNR  −10 log₁₀ MSE
SSIM  (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂)), c₁ = 0.01², c₂ = 0.03², under a
      Gaussian window of 11 pixels and σ = 1.5 (Wang et al., 2004), averaged over the picture
"""

from __future__ import annotations

import math

from torch import Tensor


def mse(image: Tensor, reference: Tensor) -> float:
    """Mean squared error of images [..., 3]."""
    return (image - reference).pow(2).mean().item()


def psnr(image: Tensor, reference: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of images [..., 3] in [0, 1]; over the pixels of `mask` [...] only, if given.

    Infinite for equal images; NaN when the mask is empty.
    """
    squared = (image - reference).pow(2).mean(dim=-1)
    if mask is not None:
        squared = squared[mask]
    error = squared.mean().item() if squared.numel() else math.nan
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: Tensor, reference: Tensor) -> float:
    """Structural similarity of images [B, H, W, 3], at most 1; sides of at least 11 pixels."""
    # Imported here: torchmetrics takes seconds to load, and most runs measure no SSIM.
    from torchmetrics.functional.image import structural_similarity_index_measure

    pair = image.permute(0, 3, 1, 2), reference.permute(0, 3, 1, 2)
    similarity = structural_similarity_index_measure(*pair, data_range=1.0)
    assert isinstance(similarity, Tensor)  # a tuple where the whole map is asked for
    return similarity.item()
