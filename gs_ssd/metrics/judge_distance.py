"""A perceptual distance where LPIPS can't be had: LPIPS's formula without learnt weights, on a vision transformer.

With unit-length tokens u_l of layer l:  distance = mean_l mean_token |u_l(x) − u_l(y)|², between 0 and 4.

It orders pictures much as LPIPS does, but its numbers are its own: never set them beside published LPIPS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.metrics.vision import Vision


def judge_distance(vision: Vision, image: Tensor, reference: Tensor) -> float:
    """The distance of images [B, H, W, 3] in [0, 1]; 0 for equal ones."""
    layers = zip(vision.hidden(image), vision.hidden(reference))
    distances = [
        (F.normalize(x, dim=-1) - F.normalize(y, dim=-1)).pow(2).sum(dim=-1).mean() for x, y in layers
    ]
    return torch.stack(distances).mean().item()
