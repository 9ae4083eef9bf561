"""From pictures to Gaussians: how much of what a Gaussian shows lies inside a picture's mask.

A pixel's colour is Σ_i w_i(p) c_i, with w_i the Gaussian's alpha times the light that reaches it. So the gradient of
Σ_p M(p) C(p) with respect to the colour c_i is Σ_p M(p) w_i(p): one backward pass of a rendered scalar gives every
Gaussian's contribution inside the mask M, and a second colour channel with M = 1 gives the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians

_SEEN = 1e-2  # pixels that a Gaussian must make up to have a vote


def contributions(
    gaussians: Gaussians,
    cameras: Cameras,
    pictures: Tensor,
    renderer: Callable[[Gaussians, Cameras], Any],
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each camera, the pixels of each Gaussian inside its picture and altogether, two [N] tensors.

    `pictures` [C, H, W] in [0, 1] have the cameras' size.
    """
    fixed = gaussians.map(Tensor.detach)
    for index in range(len(cameras)):
        with torch.enable_grad():
            # Mid-grey, so that no rasterizer clamps it.
            colours = torch.zeros_like(fixed.sh0).requires_grad_()
            image = renderer(replace(fixed, sh0=colours, shN=fixed.shN[:, :0]), cameras[index]).rgb[0]
            mask = pictures[index].to(image)
            (image[..., 0] * mask + image[..., 1]).sum().backward()
        gradient = colours.grad
        assert gradient is not None
        scale = 0.28209479177387814
        yield gradient[:, 0, 0] / scale, gradient[:, 0, 1] / scale


def lift(
    gaussians: Gaussians,
    cameras: Cameras,
    pictures: Tensor,
    renderer: Callable[[Gaussians, Cameras], Any],
    *,
    threshold: float = 0.5,
    votes: int = 1,
) -> Tensor:
    """The Gaussians [N] bool of which at least the share `threshold` lies inside the mask pictures [C, H, W].

    At least `votes` of the views must agree; a view that hardly sees a Gaussian has no vote on it.
    """
    inside, total, agree = (torch.zeros_like(gaussians.opacities.detach()) for _ in range(3))
    for view_inside, view_total in contributions(gaussians, cameras, pictures, renderer):
        inside += view_inside
        total += view_total
        agree += (view_total > _SEEN) & (view_inside >= threshold * view_total)
    return (total > _SEEN) & (inside >= threshold * total) & (agree >= votes)


def shares(
    gaussians: Gaussians,
    cameras: Cameras,
    pictures: Tensor,
    renderer: Callable[[Gaussians, Cameras], Any],
) -> tuple[Tensor, Tensor]:
    """The mean of the pictures [C, H, W] over what each Gaussian shows, [N], and its pixels in all views, [N]."""
    inside, total = (torch.zeros_like(gaussians.opacities.detach()) for _ in range(2))
    for view_inside, view_total in contributions(gaussians, cameras, pictures, renderer):
        inside += view_inside
        total += view_total
    return inside / total.clamp_min(1e-12), total
