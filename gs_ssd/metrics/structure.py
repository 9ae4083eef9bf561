"""Structure distance: how differently two pictures are laid out, whatever they look like (Tumanyan et al., 2022).

K(x) are the keys of a vision transformer's last layer, one row per token, and S(x) their cosine similarities:

    S_ij = K_i·K_j / (|K_i| |K_j|)          distance = mean_ij (S_ij(x) − S_ij(y))²

Published with DINO ViT-B/8 (layer 11 of 0-11; 785 tokens of 224x224 pixels).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gs_ssd.metrics.vision import Vision


def self_similarity(keys: Tensor) -> Tensor:
    """Cosine similarities [B, T, T] of keys [B, T, D]."""
    unit = F.normalize(keys, dim=-1)
    return unit @ unit.transpose(1, 2)


def structure_distance(vision: Vision, image: Tensor, reference: Tensor, *, compat: bool = False) -> float:
    """The distance of images [B, H, W, 3] in [0, 1]; 0 for equal ones.

    `compat` does as the published evaluation: pixels in 0-255 enter a normalisation meant for [0, 1], after a resize
    without antialiasing.
    """
    x, y = (self_similarity(vision.keys(picture, compat=compat)) for picture in (image, reference))
    return F.mse_loss(x, y).item()
