"""A look at a selection before anything is edited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import SH_C0, Gaussians

ORANGE = (1.0, 0.45, 0.0)


def tinted(
    gaussians: Gaussians, chosen: Tensor, *, colour: Sequence[float] = ORANGE, strength: float = 0.6
) -> Gaussians:
    """The scene with the `chosen` [N] bool Gaussians mixed with `colour` (RGB in [0, 1]) and the others paler."""
    tint = (gaussians.sh0.new_tensor(colour) - 0.5) / SH_C0
    grey = gaussians.sh0.mean(dim=-1, keepdim=True)
    rows = chosen[:, None, None]
    sh0 = torch.where(
        rows, torch.lerp(gaussians.sh0, tint, strength), torch.lerp(gaussians.sh0, grey, strength)
    )
    return replace(gaussians, sh0=sh0, shN=gaussians.shN * (1 - strength))


@torch.no_grad()
def preview(
    gaussians: Gaussians, chosen: Tensor, cameras: Cameras, renderer: Callable[[Gaussians, Cameras], Any]
) -> Tensor:
    """Pictures [C, H, W, 3] in [0, 1] of the scene with its selection in orange and the rest nearly grey."""
    scene = tinted(gaussians, chosen)
    return torch.cat([renderer(scene, cameras[i]).rgb for i in range(len(cameras))]).clamp(0, 1)
