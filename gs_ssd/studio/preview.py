"""An edit tried on one picture, before the scene is edited: seconds in place of minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.results.video import to_uint8
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import SH_C0
from gs_ssd.scene.scene import Scene
from gs_ssd.session.config import view_edit
from gs_ssd.studio.frames import renderer_of


@torch.no_grad()
def square(camera: Cameras, size: int) -> Cameras:
    """The middle of a camera's picture as `size` x `size` pixels."""
    side = min(camera.width, camera.height)
    Ks = camera.Ks.clone()
    Ks[:, 0, 2] -= (camera.width - side) / 2
    Ks[:, 1, 2] -= (camera.height - side) / 2
    Ks[:, :2] *= size / side
    return Cameras(camera.viewmats, Ks, size, size)


def edited_view(
    scene: Scene,
    camera: Cameras,
    chosen: Tensor,
    cfg: Any,
    prior: DiffusionPrior,
    *,
    steps: int,
    each: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """(before, after) of the picture's middle, uint8 [S, S, 3]; what is not selected stays as it is.

    The picture is rendered at the prior's own resolution and edited by the settings `cfg` of the scene's edit.
    """
    window = square(camera, math.ceil(prior.resolution / prior.vae_scale_factor) * prior.vae_scale_factor)
    renderer = renderer_of(scene)
    with torch.no_grad():
        before = renderer(scene.gaussians, window).rgb.clamp(0, 1)
        # The selection in white and the rest in black: how much of each pixel may change.
        white = torch.where(chosen[:, None, None], 0.5 / SH_C0, -0.5 / SH_C0).float().expand(-1, 1, 3)
        painted = replace(scene.gaussians, sh0=white, shN=scene.gaussians.shN[:, :0], extra=None)
        share = renderer(painted, window, background=torch.zeros(3)).rgb[..., :1].clamp(0, 1)
    edit = view_edit(cfg, before, prior, steps=steps)
    for _ in edit:
        each()
    after = torch.lerp(before, edit.picture.to(before).detach(), share)
    return to_uint8(before[0]), to_uint8(after[0])
