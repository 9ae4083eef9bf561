"""A brush stroke: what lies close to the surface that the pointer passes over."""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.checks import choice
from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.studio.picking import Surface
from gs_ssd.studio.selection import MODES, Selection, Selector

_PIXELS = 512  # of the longer side of the picture whose depth is asked: a pointer is no finer
_SPACING = 0.25  # radii between the points of a stroke


class Stroke:
    """A stroke over what one camera shows, drawn place by place.

    The depth under it is rendered once, at its start: while a stroke is drawn, neither camera nor scene moves. Between
    two places it is a straight line. The selection follows it; all of it is one step of the selector's undo.

    Args:
        camera: one view.
        share: the brush's radius in object radii.
        mode: how the stroke joins the selection that it found, one of MODES.
    """

    def __init__(self, selector: Selector, camera: Cameras, share: float, mode: str) -> None:
        self.selector, self.mode = selector, choice("mode", mode, MODES)
        self.radius = share * selector.scene.frame.radius
        scale = min(_PIXELS / max(camera.width, camera.height), 1.0)
        width, height = (max(round(side * scale), 1) for side in (camera.width, camera.height))
        self.surface = Surface.seen(selector.scene, camera.resized(width, height))
        self.found = torch.zeros(len(selector.scene), dtype=torch.bool)
        self._pixel: Tensor | None = None
        self._last: Tensor | None = None  # point of the surface that was painted
        self._base = selector.now
        self._made: Selection | None = None

    def to(self, across: float, down: float) -> bool:
        """Lead the stroke on to a place (shares of the picture's sides); returns whether the selection changed."""
        pixel = torch.tensor([across * self.surface.camera.width, down * self.surface.camera.height])
        start = pixel if self._pixel is None else self._pixel
        self._pixel = pixel
        count = max(int((pixel - start).abs().max().ceil()), 1)
        line = start + (pixel - start) * torch.linspace(0, 1, count + 1)[1:, None]
        before = int(self.found.sum())
        means = self.selector.scene.gaussians.means.cpu()
        for point in self._thinned(self.surface.points(line)):
            self.found |= (means - point).norm(dim=1) <= self.radius
        if int(self.found.sum()) == before:
            return False
        self._select()
        return True

    def end(self) -> None:
        """Raises UserError for a stroke that touched nothing."""
        if not self.found.any():
            raise UserError("there is nothing under the brush; paint over the object")

    def _thinned(self, points: Tensor) -> list[Tensor]:
        kept = []
        for point in points:
            if self._last is None or (point - self._last).norm() >= _SPACING * self.radius:
                self._last = point
                kept.append(point)
        return kept

    def _select(self) -> None:
        selector = self.selector
        again = selector.now is self._made  # else it is the stroke's first, or somebody else's came between
        if not again:
            self._base = selector.now
        self._made = selector.paint(self._base, self.found, self.mode, again=again)
