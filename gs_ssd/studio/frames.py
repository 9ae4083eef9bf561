"""What the page shows: a picture of the scene from a browser's camera, rendered here with all its harmonics."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gs_ssd.render import Render, compile_kernels, kernels_are_compiled, render
from gs_ssd.results.video import to_uint8
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks import tinted
from gs_ssd.scene.scene import Scene
from gs_ssd.studio.dots import dotted

SHOWS = ("edit", "before", "split")
_KEPT = 3  # scenes on the device or in colour that are kept for the next picture


@dataclass(frozen=True)
class Look:
    """What is shown.

    Attributes:
        show: the edit, what it started from, or both side by side.
        split: the share of the width that shows the edit's start.
        tint: colour the selection.
    """

    show: str = "edit"
    split: float = 0.5
    tint: bool = False


def camera_of(
    position: Sequence[float], wxyz: Sequence[float], fov: float, width: int, height: int
) -> Cameras:
    """A browser's camera: `wxyz` turns camera axes (x right, y down, z forward) into the world's, `fov` is vertical
    and in radians, `width` and `height` are in pixels."""
    w, x, y, z = (float(value) for value in wxyz)
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    view = torch.eye(4)
    view[:3, :3] = rotation.T
    view[:3, 3] = -rotation.T @ torch.tensor([float(value) for value in position])
    focal = 0.5 * height / math.tan(0.5 * fov)
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return Cameras(view[None], K[None], width, height)


def cropped(camera: Cameras, left: int, right: int) -> Cameras:
    """The columns from `left` to `right` of a camera's picture."""
    Ks = camera.Ks.clone()
    Ks[:, 0, 2] -= left
    return Cameras(camera.viewmats, Ks, right - left, camera.height)


def renderer_of(scene: Scene, device: torch.device | str = "cpu") -> Callable[..., Render]:
    """How an edit of this scene renders it."""
    return partial(
        render,
        background=torch.tensor(list(scene.background), device=device),
        rasterize_mode="antialiased" if scene.gaussians.antialiased else "classic",
    )


class Frames:
    """Pictures of scenes; what was last shown stays on the device.

    Until the kernels of `device` are compiled, which takes a minute once, pictures are made of dots.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.exact = kernels_are_compiled(self.device)
        self._kept: OrderedDict[tuple[int, int], tuple[object, object, Gaussians]] = OrderedDict()

    def prepare(self) -> None:
        """Compile the kernels; from then on pictures are exact."""
        compile_kernels(self.device)
        self.exact = True

    @torch.no_grad()
    def picture(
        self,
        scene: Scene,
        camera: Cameras,
        look: Look,
        *,
        before: Gaussians | None = None,
        chosen: Tensor | None = None,
    ) -> np.ndarray:
        """uint8 [H, W, 3].

        Args:
            before: what the edit started from; None: there is none, the scene itself is shown.
            chosen: [N] bool, the selection that `look.tint` colours.
        """
        renderer = renderer_of(scene, self.device)
        now = scene.gaussians
        tint = chosen if look.tint and chosen is not None and len(chosen) == len(now) else None

        def shot(gaussians: Gaussians, part: Cameras, tint: Tensor | None = None) -> np.ndarray:
            ready = self._ready(gaussians, tint)
            if not self.exact:
                return dotted(ready, part, scene.background)
            return to_uint8(renderer(ready, part.to(self.device)).rgb[0])

        if before is None or look.show == "edit":
            return shot(now, camera, tint)
        if look.show == "before":
            return shot(before, camera)
        middle = min(max(round(look.split * camera.width), 1), camera.width - 1)
        left = shot(before, cropped(camera, 0, middle))
        right = shot(now, cropped(camera, middle, camera.width), tint)
        both = np.concatenate([left, right], axis=1)
        both[:, middle - 1 : middle + 1] = 255
        return both

    def _ready(self, gaussians: Gaussians, tint: Tensor | None) -> Gaussians:
        """On the device, in colour; the last few are kept by identity, with what they were made of."""
        if tint is None and gaussians.device == self.device:
            return gaussians
        key = id(gaussians), id(tint)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][2]
        ready = gaussians.to(self.device)
        if tint is not None:
            ready = tinted(replace(ready, extra=None), tint.to(self.device))
        self._kept[key] = (gaussians, tint, ready)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return ready
