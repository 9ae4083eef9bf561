"""Whether the views of an edit show one object.

warp_psnr: every view is carried into its neighbour by its depth; where both see the same surface, their colours should
agree. A picture per view, edited on its own, fails this; a splat passes it up to its view-dependent colours and
half-transparent pixels, so the source's own value is what an edit's is compared with.

direction_consistency: of Instruct-NeRF2NeRF (Haque et al., ICCV 2023), the cosine between the CLIP edit directions of
neighbouring views; it lies in gs_ssd/metrics/clip.py, beside the features that it needs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

DEPTH_TOLERANCE = 0.02  # of the depth: further apart, the two views see different surfaces


def warp_psnr(images: Tensor, depths: Tensor, viewmats: Tensor, Ks: Tensor, mask: Tensor) -> float:
    """PSNR in dB between each view and the next one warped into it, the last one's next being the first.

    Args:
        images: [V, H, W, 3] in [0, 1], in the order of the cameras' path.
        depths: [V, H, W] along the optical axis, world units.
        viewmats, Ks: world-to-camera [V, 4, 4] and intrinsics [V, 3, 3] in pixels (OpenCV).
        mask: [V, H, W] bool, the pixels with a surface worth comparing; both views' must agree.

    Infinite for exact agreement; NaN where no two views share a surface.
    """
    total, count = 0.0, 0
    for i in range(len(images)):
        j = (i + 1) % len(images)
        errors = _errors(images, depths, viewmats, Ks, mask, i, j)
        total, count = total + errors.sum().item(), count + errors.numel()
    if count == 0:
        return math.nan
    return math.inf if total == 0 else -10 * math.log10(total / count)


def _errors(
    images: Tensor, depths: Tensor, viewmats: Tensor, Ks: Tensor, mask: Tensor, i: int, j: int
) -> Tensor:
    """Squared errors [pixels, 3] of view j seen from view i, where both see the same surface."""
    height, width = depths.shape[1:]
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).to(images)
    points = (pixels @ torch.linalg.inv(Ks[i]).T) * depths[i][..., None]
    motion = viewmats[j] @ torch.linalg.inv(viewmats[i])
    points = points @ motion[:3, :3].T + motion[:3, 3]
    projected = points @ Ks[j].T
    grid = 2 * projected[..., :2] / projected[..., 2:].clamp_min(1e-6) / projected.new_tensor([width, height])
    grid = (grid - 1)[None]
    layers = torch.cat([images[j], depths[j][..., None], mask[j][..., None].to(images)], dim=-1)
    seen = F.grid_sample(layers.permute(2, 0, 1)[None], grid, align_corners=False)[0].permute(1, 2, 0)
    same = (seen[..., 3] - points[..., 2]).abs() < DEPTH_TOLERANCE * points[..., 2]
    valid = mask[i] & same & (seen[..., 4] > 0.999) & (points[..., 2] > 0)
    return (seen[..., :3] - images[i])[valid].pow(2)
