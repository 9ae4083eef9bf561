"""What may change, as it is built up: tool by tool, with undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gs_ssd.checks import choice
from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks import Box, Everything, Grow, Mask, MaskContext, Shrink
from gs_ssd.scene.masks.lifting import lift
from gs_ssd.scene.scene import Scene
from gs_ssd.studio.timeline import Timeline

MODES = ("replace", "add", "subtract", "intersect")
_MOST = 100  # selections that can be undone; each takes a byte per Gaussian


@dataclass(frozen=True)
class Selection:
    """`chosen` [N] bool on the CPU, and how it came about."""

    chosen: Tensor
    made_by: str

    @property
    def count(self) -> int:
        return int(self.chosen.sum())


class Given(Mask):
    """A selection that is there already."""

    may_hold_all = True

    def __init__(self, chosen: Tensor) -> None:
        self.chosen = chosen

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return self.chosen.to(gaussians.device)


def turned_box(center: Sequence[float], sides: Sequence[float], wxyz: Sequence[float]) -> Box:
    """The box around `center` [3] with `sides` [3] (world units), turned by the quaternion `wxyz`."""
    half = np.array([0.5 * float(side) for side in sides])
    middle = np.array([float(value) for value in center])
    w, x, y, z = (float(value) for value in wxyz)
    degrees = Rotation.from_quat([x, y, z, w]).as_euler("xyz", degrees=True)
    return Box(middle - half, middle + half, degrees)


class Rectangle(Mask):
    """What a camera shows inside a rectangle of its picture: the Gaussians at the front, not those behind them.

    `low`, `high` are the corners (x, y) as shares of the picture's width and height.
    """

    hint = "draw it over the object"

    def __init__(self, camera: Cameras, low: tuple[float, float], high: tuple[float, float]) -> None:
        self.camera, self.low, self.high = camera, low, high

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        context.need(self, "renderer")
        assert context.renderer is not None
        width, height = self.camera.width, self.camera.height
        picture = torch.zeros(1, height, width)
        (left, top), (right, bottom) = (
            (round(x * width), round(y * height)) for x, y in (self.low, self.high)
        )
        picture[:, top : max(bottom, top + 1), left : max(right, left + 1)] = 1
        return lift(gaussians, self.camera.to(gaussians.device), picture, context.renderer)

    def __str__(self) -> str:
        return "rectangle"


class Selector:
    """The selection of one scene.

    Args:
        scene: what is selected from; its `editable` is the selection at the start.
        changed: called with the selection before and after each change.
        looking: what masks may ask, as `Scene.select` takes it.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        changed: Callable[[Selection, Selection], None] = lambda before, now: None,
        **looking: Any,
    ) -> None:
        self.scene, self._changed = scene, changed
        self.context = MaskContext(frame=scene.frame, cameras=scene.cameras, views=scene.views, **looking)
        first = Selection(scene.editable.cpu(), "as opened")
        self.timeline = Timeline(first, what="selection", most=_MOST)

    @property
    def now(self) -> Selection:
        return self.timeline.now

    def find(self, mask: Mask, context: MaskContext | None = None) -> Tensor:
        """[N] bool on the CPU. Raises UserError where the mask selects nothing."""
        return mask(self.scene.gaussians, context or self.context).cpu()

    def apply(self, mask: Mask, mode: str = "replace", context: MaskContext | None = None) -> Selection:
        """Take what `mask` selects for the selection, or combine both (`mode`, one of MODES)."""
        choice("mode", mode, MODES)
        combined = _combined(self.now.chosen, self.find(mask, context), mode)
        return self._push(combined, f"{mode}: {type(mask).__name__.lower()}")

    def paint(self, old: Selection, found: Tensor, mode: str, *, again: bool) -> Selection:
        """Combine `old` with what a stroke has `found` so far, [N] bool; `again`: in the place of its last state."""
        made = Selection(_combined(old.chosen, found, mode), f"{mode}: stroke")
        return self._move(lambda: (self.timeline.replace if again else self.timeline.push)(made))

    def invert(self) -> Selection:
        return self._push(~self.now.chosen, "inverted")

    def everything(self) -> Selection:
        return self.apply(Everything())

    def nothing(self) -> Selection:
        return self._push(torch.zeros_like(self.now.chosen), "nothing")

    def grow(self, share: float) -> Selection:
        """Take in what lies within `share` object radii of the selection."""
        return self._resized(Grow, share, "grown")

    def shrink(self, share: float) -> Selection:
        """Leave out what lies within `share` object radii of what is not selected."""
        return self._resized(Shrink, share, "shrunk")

    def _resized(self, kind: Callable[..., Mask], share: float, word: str) -> Selection:
        if not self.now.count:
            raise UserError("the selection is empty; select something first")
        mask = kind(Given(self.now.chosen), share * self.scene.frame.radius)
        return self._push(mask.find(self.scene.gaussians, self.context).cpu(), word)

    def undo(self) -> Selection:
        return self._move(self.timeline.undo)

    def redo(self) -> Selection:
        return self._move(self.timeline.redo)

    def _push(self, chosen: Tensor, made_by: str) -> Selection:
        return self._move(lambda: self.timeline.push(Selection(chosen, made_by)))

    def _move(self, move: Callable[[], object]) -> Selection:
        before = self.now
        move()
        self._changed(before, self.now)
        return self.now


def _combined(old: Tensor, found: Tensor, mode: str) -> Tensor:
    """[N] bool of two, by one of MODES."""
    return {
        "replace": lambda: found.clone(),
        "add": lambda: old | found,
        "subtract": lambda: old & ~found,
        "intersect": lambda: old & found,
    }[mode]()
