"""How much of each pixel some of a scene's Gaussians make up."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gs_ssd.render.renderer import render
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import SH_C0, Gaussians


@torch.no_grad()
def coverage(gaussians: Gaussians, chosen: Tensor, cameras: Cameras) -> Tensor:
    """The share [C, H, W] of each pixel that comes from the `chosen` [N] bool Gaussians, in [0, 1].

    The other Gaussians hide them as they do in the picture: the chosen ones are drawn white and the others black.
    """
    white = (chosen.to(gaussians.means) - 0.5) / SH_C0
    mask = replace(
        gaussians, sh0=white[:, None, None].expand(-1, 1, 3).contiguous(), shN=gaussians.shN[:, :0]
    )
    views = [render(mask, cameras[i]).rgb[..., 0] for i in range(len(cameras))]
    return torch.cat(views).clamp(0, 1)
