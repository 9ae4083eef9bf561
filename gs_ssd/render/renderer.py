"""Render a scene: stored parameters in, images out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gs_ssd.render.rasterization import Leaves, activate, rasterization
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians, Rows


@dataclass
class Render:
    """Images of C views: rgb [C, H, W, 3], alpha [C, H, W, 1], depth [C, H, W, 1] if asked for, and gsplat's info."""

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None
    info: dict


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    leaves: Gaussians | None = None,
    rows: Rows | None = None,
    whole: Leaves | None = None,
    shown: bool = False,
) -> Render:
    """Activate the stored parameters and rasterise them in front of `background` [3] (default black).

    `render_mode` is "RGB", "RGB+D" (accumulated depth) or "RGB+ED" (expected depth); `rasterize_mode` is "classic" or
    "antialiased". With `leaves`, gradients flow to them alone: they hold the values of those Gaussians that `rows`
    names, as for `rasterization`, and so is `shown`. `whole` is what `activated` makes of `gaussians`, where a caller
    has it, or `selected` of that, where nothing else is to be drawn.
    """
    if not render_mode.startswith("RGB"):
        raise ValueError(f"render_mode is {render_mode!r}, expected 'RGB', 'RGB+D' or 'RGB+ED'")
    if background is not None:
        background = background.to(gaussians.means).expand(len(cameras), 3)
    if leaves is None and whole is None:
        leaves = gaussians
    with torch.no_grad():  # gradients go to the leaves
        whole = whole or activated(gaussians)
    image, alpha, info = rasterization(
        *whole,
        cameras.viewmats.to(gaussians.means),
        cameras.Ks.to(gaussians.means),
        cameras.width,
        cameras.height,
        sh_degree=gaussians.sh_degree,
        backgrounds=background,
        render_mode=render_mode,
        rasterize_mode=rasterize_mode,
        leaves=None if leaves is None else _stored(leaves),
        rows=rows,
        shown=shown,
    )
    if render_mode == "RGB":  # a slice would cost a copy in the backward pass
        return Render(image, alpha, None, info)
    return Render(image[..., :3], alpha, image[..., 3:], info)


def activated(gaussians: Gaussians) -> Leaves:
    """What `rasterization` takes of stored parameters."""
    return activate(*_stored(gaussians))


def _stored(gaussians: Gaussians) -> Leaves:
    """The parameters in the order of `rasterization`."""
    return (
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        (gaussians.sh0, gaussians.shN),
    )


def selected(whole: Leaves, chosen: Tensor) -> Leaves:
    """Some of what `activated` made: of the Gaussians `chosen` [n]."""
    means, quats, scales, opacities = (value.index_select(0, chosen) for value in whole[:4])
    sh0, shN = (value.index_select(0, chosen) for value in whole[4])
    return means, quats, scales, opacities, (sh0, shN)
