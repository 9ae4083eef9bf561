"""One camera as the readers deliver it, and the check that all of them go through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gs_ssd.scene.cameras import Cameras

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])  # y up, z backward -> y down, z forward

_LARGEST_SIDE = 1 << 15  # pixels
# Of the longer image side: fields of view from 0.06 to 178 degrees, and a principal point of a cropped picture.
_SHORTEST, _LONGEST, _FARTHEST = 0.01, 1000.0, 10.0


@dataclass
class View:
    """`camera_to_world` [4, 4] in the OpenCV convention; focal lengths and principal point in pixels."""

    name: str
    camera_to_world: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


def combined(views: Sequence[View]) -> Cameras:
    """The views as one batch, in their order; those of another size are fitted to the most common one.

    Raises ValueError, naming the view, for poses that are no rigid motion and intrinsics that are no camera.
    """
    if not views:
        raise ValueError("it lists no cameras")
    (width, height), _ = Counter((view.width, view.height) for view in views).most_common(1)[0]
    viewmats, Ks = zip(*(_camera(view) for view in views))
    cameras = Cameras(_float(viewmats), _float(Ks), width, height)
    for index, view in enumerate(views):
        if (view.width, view.height) != (width, height):
            own = Cameras(cameras.viewmats[index, None], cameras.Ks[index, None], view.width, view.height)
            cameras.Ks[index] = own.resized(width, height).Ks[0]
    return cameras


def _float(matrices: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(matrices)).float()


def _camera(view: View) -> tuple[np.ndarray, np.ndarray]:
    """World-to-camera [4, 4] and intrinsics [3, 3] of a view that is a camera."""
    numbers = np.array(
        [view.fx, view.fy, view.cx, view.cy, *np.ravel(view.camera_to_world)], dtype=np.float64
    )
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e9:
        raise ValueError(f"camera {view.name!r} has NaN, infinite or absurd numbers")
    if not (0 < view.width <= _LARGEST_SIDE and 0 < view.height <= _LARGEST_SIDE):
        raise ValueError(f"camera {view.name!r} has the image size {view.width} x {view.height}")
    side = max(view.width, view.height)
    for focal in (view.fx, view.fy):
        if not _SHORTEST * side <= focal <= _LONGEST * side:
            raise ValueError(f"camera {view.name!r} has the focal length {focal:g} for {side} pixels")
    if max(abs(view.cx), abs(view.cy)) > _FARTHEST * side:
        raise ValueError(f"camera {view.name!r} has its principal point at {view.cx:g}, {view.cy:g}")
    viewmat = np.linalg.inv(_rigid(view))
    K = np.array([[view.fx, 0, view.cx], [0, view.fy, view.cy], [0, 0, 1]])
    return viewmat, K


def _rigid(view: View) -> np.ndarray:
    """The pose without the uniform scale that some exporters leave in its rotation."""
    pose = np.array(view.camera_to_world, dtype=np.float64)
    determinant = np.linalg.det(pose[:3, :3])
    if determinant > 1e-12:
        pose[:3, :3] /= np.cbrt(determinant)
    if determinant <= 1e-12 or np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 1e-2:
        raise ValueError(f"camera {view.name!r} has a pose that is no rotation")
    u, _, vt = np.linalg.svd(pose[:3, :3])
    pose[:3, :3] = u @ vt
    pose[3] = [0, 0, 0, 1]
    return pose
