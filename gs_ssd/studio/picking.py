"""The point of a scene's surface under the mouse."""

from __future__ import annotations

import torch

from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.scene import Scene

_PIXELS = 5  # side of the window that is rendered around the click
_SOLID = 0.3  # the alpha from which on there is a surface


@torch.no_grad()
def surface_point(scene: Scene, camera: Cameras, across: float, down: float) -> tuple[float, float, float]:
    """The point [x, y, z] that `camera` shows at the place (`across`, `down`), shares of its picture's sides.

    Raises UserError where it shows the background.
    """
    x, y = across * camera.width, down * camera.height
    Ks = camera.Ks.clone()
    Ks[:, 0, 2] += _PIXELS / 2 - x
    Ks[:, 1, 2] += _PIXELS / 2 - y
    window = Cameras(camera.viewmats, Ks, _PIXELS, _PIXELS)
    out = render(scene.gaussians, window, render_mode="RGB+ED")
    middle = _PIXELS // 2
    assert out.depth is not None
    if float(out.alpha[0, middle, middle]) < _SOLID:
        raise UserError("there is nothing under the mouse; click on the object")
    depth = float(out.depth[0, middle, middle])
    K, view = camera.Ks[0], camera.viewmats[0]
    ray = torch.tensor([(x - float(K[0, 2])) / float(K[0, 0]), (y - float(K[1, 2])) / float(K[1, 1]), 1.0])
    point = view[:3, :3].T @ (depth * ray - view[:3, 3])
    return float(point[0]), float(point[1]), float(point[2])
