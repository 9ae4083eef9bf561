"""What a ControlNet for depth is shown: near is white, far is dark, nothing at all is black."""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.render import Render


def depth_picture(render: Render) -> Tensor:
    """1/depth over its largest value in each view, [C, 1, H, W] in [0, 1], of a render with expected depths.

    Depth estimators, whose pictures these networks were trained on, give inverse depths too. Where the scene is
    transparent, the picture is as dark.
    """
    assert render.depth is not None
    near = torch.where(render.alpha > 1e-3, render.alpha / render.depth.clamp(min=1e-6), 0.0).squeeze(-1)
    largest = near.flatten(1).amax(dim=1).clamp(min=1e-12)
    return (near / largest[:, None, None])[:, None]
