"""From a scene's file and settings to its place in the world and the views of an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gs_ssd.errors import UserError
from gs_ssd.scene.bounds import SceneFrame, find_frame
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.orbit import FixedViews, OrbitViews, orbit


def locate(
    gaussians: Gaussians,
    *,
    up: str = "auto",
    center: Sequence[float] | None = None,
    radius: float | None = None,
    cameras: Cameras | None = None,
) -> SceneFrame:
    """The scene's frame, found from its Gaussians; `center` [3] and `radius` (world units) overrule what is found."""
    frame = find_frame(gaussians, up=up, cameras=cameras)
    if center is not None:
        frame = replace(frame, center=torch.tensor(list(center), dtype=torch.float32))
    if radius is not None:
        if radius <= 0:
            raise UserError(f"scene.radius={radius} must be positive")
        frame = replace(frame, radius=float(radius), near=0.01 * radius, far=max(frame.far, 10 * radius))
    return frame


def training_views(
    frame: SceneFrame,
    *,
    size: int,
    generator: torch.Generator,
    cameras: Cameras | None = None,
    count: int | None = 96,
    **orbit_ranges,
) -> OrbitViews | FixedViews:
    """The views an edit draws from: the user's cameras, or `count` random ones on an orbit (None: new ones each step).

    `orbit_ranges` are OrbitViews' ranges. At most `count` of the user's cameras are used.
    """
    if cameras is not None:
        square = cameras.resized(size, size)
        if count is not None and len(square) > count:
            square = square[torch.randperm(len(square), generator=generator)[:count]]
        return FixedViews(square)
    views = OrbitViews(frame, size, size, **orbit_ranges)
    if count is None:
        return views
    return FixedViews(views.sample(count, generator)[0])


def camera_extent(views: OrbitViews | FixedViews, frame: SceneFrame) -> float:
    """1.1 × the largest distance of a camera from the mean of all cameras, the scale of the means' learning rate."""
    if isinstance(views, OrbitViews):
        positions = views.sample(64, torch.Generator().manual_seed(0))[0].positions
    else:
        positions = views.cameras.positions
    spread = (positions - positions.mean(dim=0)).norm(dim=-1).max().item()
    return 1.1 * spread if spread > 0 else frame.radius


def turntable(
    frame: SceneFrame,
    frames: int,
    *,
    size: int,
    elevation_degrees: float = 10.0,
    front_azimuth_degrees: float = 0.0,
    fov_degrees: float = 45.0,
) -> Cameras:
    """A full turn from the front, `size` × `size` pixels."""
    return orbit(
        frame,
        frames,
        width=size,
        height=size,
        fov_degrees=fov_degrees,
        elevation_degrees=elevation_degrees,
        front_azimuth_degrees=front_azimuth_degrees,
    )
