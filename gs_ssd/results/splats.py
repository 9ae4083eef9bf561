"""A scene packed for the page's own viewer: 24 bytes per Gaussian, and where to stand.

A record, little-endian:  float32 x y z (from the object's centre) · uint8 r g b alpha · int8 quaternion w x y z × 127 ·
uint8 log scales over the range that the page's `view.scale` gives, one byte unused. Colours are those of degree 0: what
a Gaussian shows to every side. It is for looking, not for keeping; edited.ply holds everything.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gs_ssd.scene import Cameras, Gaussians

RECORD = np.dtype(
    [("mean", "<f4", 3), ("rgba", "u1", 4), ("quat", "i1", 4), ("scale", "u1", 3), ("unused", "u1")]
)
LOG_SCALES = (
    -12.0,
    14.0,
)  # lowest and range of the logarithm of a scale in units of the distance: e^-12 to e^2


@dataclass(frozen=True)
class Stand:
    """Where a viewer stands: on a sphere around `center` [3] of `distance`, world units.

    `up` and `front` are unit vectors [3] at right angles; `elevation` and `fov` are in radians, `fov` over the shorter
    side; `background` is RGB in [0, 1].
    """

    center: Tensor
    up: Tensor
    front: Tensor
    distance: float
    elevation: float
    fov: float
    background: tuple[float, ...]

    @classmethod
    def of_orbit(cls, cameras: Cameras, background: tuple[float, ...]) -> Stand:
        """Where the first of `cameras` stands, around the point that all of them look at."""
        views, positions = cameras.viewmats.double().cpu(), cameras.positions.double().cpu()
        forward = views[:, 2, :3]
        center = _looked_at(positions, forward)
        up = -views[:, 1, :3].mean(dim=0)
        up = up / up.norm() if up.norm() > 0.1 else -views[0, 1, :3]  # all around the object: no common up
        back = positions[0] - center
        distance = float(back.norm()) or 1.0
        level = back - (back @ up) * up
        front = level / level.norm() if level.norm() > 1e-6 * distance else -views[0, 1, :3]
        K = cameras.Ks[0]
        return cls(
            center=center,
            up=up,
            front=front,
            distance=distance,
            elevation=math.asin(max(-1.0, min(1.0, float(back @ up) / distance))),
            fov=2 * math.atan(0.5 * min(cameras.width, cameras.height) / float(K[0, 0])),
            background=background,
        )

    def settings(self, *, antialiased: bool, whole: bool = False) -> dict[str, Any]:
        """What viewer.js takes as `view`; lengths are in units of `distance`.

        `antialiased` is the scene's (see Gaussians); `whole`: the view is the whole page.
        """
        return {
            "up": self.up.tolist(),
            "front": self.front.tolist(),
            "distance": 1.0,
            "near": 0.02,
            "elevation": self.elevation,
            "fov": self.fov,
            "background": list(self.background),
            "scale": list(LOG_SCALES),
            "antialiased": antialiased,
            "whole": whole,
        }


@torch.no_grad()
def pack(gaussians: Gaussians, stand: Stand, *, limit: int) -> str:
    """Base64 of the records of at most `limit` Gaussians: those that look largest from around `stand`."""
    g = gaussians.map(lambda value: value.detach().cpu())
    offsets = (g.means.double() - stand.center) / stand.distance
    scales = g.scales.double() - math.log(stand.distance)
    alpha = g.opacities.double().sigmoid()
    if len(g) > limit:
        largest = scales.sort(dim=1).values[:, 1:].sum(dim=1).exp()  # two axes: the area it shows
        apparent = alpha * largest / offsets.norm(dim=1).clamp_min(0.3) ** 2
        chosen = apparent.topk(limit).indices.sort().values
        g, offsets, scales, alpha = g[chosen], offsets[chosen], scales[chosen], alpha[chosen]
    records = np.zeros(len(g), RECORD)
    records["mean"] = offsets.float()
    records["rgba"] = torch.cat([g.rgb.double(), alpha[:, None]], dim=1).mul(255).round().byte()
    quats = torch.nn.functional.normalize(g.quats.double(), dim=1)
    records["quat"] = (quats * 127).round().to(torch.int8)
    low, span = LOG_SCALES
    records["scale"] = ((scales - low) / span * 255).clamp(0, 255).round().byte()
    return base64.b64encode(records.tobytes()).decode("ascii")


def _looked_at(positions: Tensor, forward: Tensor) -> Tensor:
    """The point [3] nearest to all optical axes; of parallel axes, a point one unit ahead of the first camera."""
    across = torch.eye(3, dtype=positions.dtype) - forward[:, :, None] * forward[:, None]
    A, b = across.sum(dim=0), (across @ positions[:, :, None])[..., 0].sum(dim=0)
    if torch.linalg.eigvalsh(A)[0] < 1e-3 * len(positions):
        return positions[0] + forward[0]
    return torch.linalg.solve(A, b)
