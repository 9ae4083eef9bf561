"""A rough picture of a scene that needs no compiled kernel: its Gaussians as dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians

_SIDE = 220  # dots along a picture's longer side: enough for a face, few enough to leave no holes in one of 40,000
_SOLID = 0.3  # the opacity from which on a Gaussian is a dot


def dotted(gaussians: Gaussians, camera: Cameras, background: Sequence[float]) -> np.ndarray:
    """uint8 [H, W, 3]: what `camera` sees, every solid Gaussian a dot of its base colour, the nearest on top."""
    coarse = max(max(camera.width, camera.height) // _SIDE, 1)
    view, K = camera.viewmats[0].double().numpy(), camera.Ks[0].double().numpy()
    points = gaussians.means.detach().cpu().double().numpy() @ view[:3, :3].T + view[:3, 3]
    seen = (points[:, 2] > 1e-6) & (gaussians.opacities.detach().cpu().sigmoid().numpy() > _SOLID)
    points = points[seen]
    pixels = points[:, :2] / points[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    column, row = np.clip(np.floor(pixels / coarse), -1, 1e6).astype(int).T
    height, width = -(-camera.height // coarse), -(-camera.width // coarse)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    order = np.flatnonzero(inside)[np.argsort(-points[inside, 2])]
    colours = gaussians.rgb.detach().cpu().numpy()[seen]
    picture = np.full((height, width, 3), background, dtype=float)
    picture[row[order], column[order]] = colours[order]  # of several at one place, the last stays
    fine = picture.repeat(coarse, axis=0).repeat(coarse, axis=1)
    return (255 * fine[: camera.height, : camera.width] + 0.5).astype(np.uint8)
