"""The surface of a scene under the pointer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.scene import Scene

_PIXELS = 5  # side of the window that is rendered around a click
_SOLID = 0.3  # the alpha from which on there is a surface


@dataclass(frozen=True)
class Surface:
    """What one camera sees of a scene.

    Attributes:
        camera: one view.
        depth: [H, W] along its axis, as the alphas expect it.
        solid: [H, W] bool, where it sees the scene and not the background.
    """

    camera: Cameras
    depth: Tensor
    solid: Tensor

    @classmethod
    @torch.no_grad()
    def seen(cls, scene: Scene, camera: Cameras) -> Surface:
        out = render(scene.gaussians, camera, render_mode="RGB+ED")
        assert out.depth is not None
        return cls(camera, out.depth[0, ..., 0].cpu(), out.alpha[0, ..., 0].cpu() >= _SOLID)

    def points(self, pixels: Tensor) -> Tensor:
        """The points [M, 3] of the surface, world units, under those `pixels` [P, 2] (x, y) that show it."""
        size = torch.tensor([self.camera.width, self.camera.height])
        pixels = pixels[((pixels >= 0) & (pixels < size)).all(dim=1)]
        column, row = pixels.long().T
        shown = self.solid[row, column]
        depth = self.depth[row, column][shown, None]
        K, view = self.camera.Ks[0].cpu(), self.camera.viewmats[0].cpu()
        across = (pixels[shown] - K[:2, 2]) / K[[0, 1], [0, 1]]
        seen = torch.cat([across * depth, depth], dim=1)
        return (seen - view[:3, 3]) @ view[:3, :3]


def surface_point(scene: Scene, camera: Cameras, across: float, down: float) -> tuple[float, float, float]:
    """The point [x, y, z] that `camera` shows at the place (`across`, `down`), shares of its picture's sides.

    Raises UserError where it shows the background.
    """
    Ks = camera.Ks.clone()
    Ks[:, 0, 2] += _PIXELS / 2 - across * camera.width
    Ks[:, 1, 2] += _PIXELS / 2 - down * camera.height
    window = Cameras(camera.viewmats, Ks, _PIXELS, _PIXELS)
    found = Surface.seen(scene, window).points(torch.full((1, 2), _PIXELS / 2))
    if not len(found):
        raise UserError("there is nothing under the mouse; click on the object")
    x, y, z = found[0].tolist()
    return x, y, z
