"""Cameras around an object: a turntable, and random training views.

Azimuth 0 is the front of the scene, elevation 0 its horizon; both are in degrees. A positive azimuth moves the camera
to its right, a positive elevation moves it up. The front is where a camera at +z sees the object if up is +-y, at -y if
up is +-z (the front view of modelling tools) and at +z otherwise; `front_azimuth_degrees` turns it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gs_ssd.checks import interval, number, vector, whole
from gs_ssd.scene.cameras import Cameras, intrinsics, look_at
from gs_ssd.scene.frame import SceneFrame, axis_vector

_MOST_VIEWS = 100_000
_MOST_PIXELS = 1 << 15  # of an image side
_FILL = 0.8  # share of the shorter image side that the sphere around the object takes


def fit_distance(frame: SceneFrame, fov_degrees: float, fill: float = _FILL) -> float:
    """The distance from the centre at which the object's sphere fills the share `fill` of the shorter image side."""
    half_angle = math.atan(fill * math.tan(math.radians(fov_degrees) / 2))
    return frame.radius / math.sin(half_angle)


def orbit(
    frame: SceneFrame,
    num_views: int,
    *,
    width: int,
    height: int,
    fov_degrees: float = 45.0,
    elevation_degrees: float = 10.0,
    azimuth_degrees: tuple[float, float] = (0.0, 360.0),
    distance: float | None = None,
    front_azimuth_degrees: float = 0.0,
) -> Cameras:
    """A turntable of `num_views` evenly spaced cameras; a full circle doesn't repeat its first view.

    `distance` is in world units from the centre; by default the object fits into the image.
    """
    whole("views", num_views, 1, _MOST_VIEWS)
    whole("width", width, 1, _MOST_PIXELS)
    whole("height", height, 1, _MOST_PIXELS)
    number("fov_degrees", fov_degrees, least=1, most=170)
    number("elevation_degrees", elevation_degrees, least=-90, most=90)
    number("front_azimuth_degrees", front_azimuth_degrees, least=-720, most=720)
    if distance is None:
        distance = fit_distance(frame, fov_degrees)
    number("distance", distance, above=0)
    start, stop = vector("azimuth_degrees", azimuth_degrees, 2, least=-36000, most=36000)
    intervals = num_views if abs(stop - start) >= 360 else max(num_views - 1, 1)
    azimuths = start + (stop - start) / intervals * torch.arange(num_views)
    positions = place(
        frame,
        azimuths + front_azimuth_degrees,
        torch.full((num_views,), float(elevation_degrees)),
        torch.full((num_views,), float(distance)),
    )
    Ks = intrinsics(fov_degrees, width, height).repeat(num_views, 1, 1)
    return Cameras(look_at(positions, frame.center, frame.up), Ks, width, height)


def place(frame: SceneFrame, azimuths: Tensor, elevations: Tensor, distances: Tensor) -> Tensor:
    """Camera positions [C, 3] from azimuths and elevations (degrees) and distances (world units), each [C]."""
    front = _front(frame.up)
    right = torch.linalg.cross(frame.up, front)
    azimuth, elevation = azimuths.deg2rad()[:, None], elevations.clamp(-89, 89).deg2rad()[:, None]
    level = azimuth.cos() * front + azimuth.sin() * right
    return frame.center + distances[:, None] * (elevation.cos() * level + elevation.sin() * frame.up)


def azimuths(frame: SceneFrame, positions: Tensor) -> Tensor:
    """The azimuths [C] in degrees of camera positions [C, 3], as `place` takes them."""
    front = _front(frame.up)
    offset = positions - frame.center
    return torch.atan2(offset @ torch.linalg.cross(frame.up, front), offset @ front).rad2deg()


def _front(up: Tensor) -> Tensor:
    """The horizontal unit vector [3] from the object to the camera at azimuth 0."""
    axis = axis_vector("-y" if up[2].abs() > 0.7 else "+z")
    return torch.nn.functional.normalize(axis - (axis @ up) * up, dim=0)


@dataclass
class OrbitViews:
    """Random training views of a scene without cameras of its own.

    Ranges are (low, high) and uniform: angles in degrees, `distance` in multiples of the distance at which the object
    fits, and `target_jitter` in object radii. The azimuths of one batch are stratified, so they see different sides.
    """

    frame: SceneFrame
    width: int
    height: int
    azimuth_degrees: tuple[float, float] = (-180.0, 180.0)
    elevation_degrees: tuple[float, float] = (-15.0, 30.0)
    fov_degrees: tuple[float, float] = (40.0, 50.0)
    distance: tuple[float, float] = (0.9, 1.15)
    target_jitter: float = 0.05
    front_azimuth_degrees: float = 0.0

    def __post_init__(self) -> None:
        whole("width", self.width, 1, _MOST_PIXELS)
        whole("height", self.height, 1, _MOST_PIXELS)
        limits = {
            "azimuth_degrees": (-720, 720),
            "elevation_degrees": (-89, 89),
            "fov_degrees": (1, 170),
            "distance": (0.01, 1000),
        }
        for name, (least, most) in limits.items():
            setattr(self, name, interval(f"scene.views.{name}", getattr(self, name), least=least, most=most))
        number("scene.views.target_jitter", self.target_jitter, least=0, most=10)
        number("scene.views.front_azimuth_degrees", self.front_azimuth_degrees, least=-720, most=720)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Cameras, None]:
        """`count` new cameras; there are no indices, since no view comes twice."""

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        strata = (torch.arange(count) + uniform(0, 1)) / count
        low, high = self.azimuth_degrees
        azimuths = low + (high - low) * strata + self.front_azimuth_degrees
        fovs = uniform(*self.fov_degrees)
        fits = torch.tensor([fit_distance(self.frame, fov) for fov in fovs.tolist()])
        positions = place(
            self.frame, azimuths, uniform(*self.elevation_degrees), fits * uniform(*self.distance)
        )
        jitter = self.target_jitter * self.frame.radius * (2 * torch.rand(count, 3, generator=generator) - 1)
        viewmats = look_at(positions, self.frame.center + jitter, self.frame.up)
        Ks = [intrinsics(fov, self.width, self.height) for fov in fovs.tolist()]
        return Cameras(viewmats, torch.stack(Ks), self.width, self.height), None

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: every sample depends on the generator alone."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The counterpart of `state_dict`."""


class FixedViews:
    """Training views drawn from given cameras, each once before any comes again."""

    def __init__(self, cameras: Cameras) -> None:
        self.cameras = cameras
        self._remaining = torch.empty(0, dtype=torch.long)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Cameras, Tensor]:
        """`count` cameras and their indices [count] among all of them, for caching what belongs to a view."""
        while len(self._remaining) < count:
            shuffled = torch.randperm(len(self.cameras), generator=generator)
            self._remaining = torch.cat([self._remaining, shuffled])
        indices, self._remaining = self._remaining[:count], self._remaining[count:]
        return self.cameras[indices], indices

    def state_dict(self) -> dict[str, Tensor]:
        """The rest of the running epoch, so that a resumed run draws the same views."""
        return {"remaining": self._remaining.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue the epoch of `state`."""
        self._remaining = state["remaining"].clone()


def training_views(
    frame: SceneFrame,
    *,
    size: int,
    generator: torch.Generator,
    cameras: Cameras | None = None,
    count: int | None = 96,
    **orbit_ranges: Any,
) -> OrbitViews | FixedViews:
    """The views an edit draws from: the user's cameras, or `count` random ones on an orbit (None: new ones each step).

    `orbit_ranges` are OrbitViews' ranges. At most `count` of the user's cameras are used.
    """
    whole("resolution", size, 1, _MOST_PIXELS)
    if count is not None:
        whole("scene.views.count", count, 1, _MOST_VIEWS)
    views = OrbitViews(frame, size, size, **orbit_ranges)  # checks the ranges, used or not
    if cameras is not None:
        square = cameras.resized(size, size)
        if count is not None and len(square) > count:
            square = square[torch.randperm(len(square), generator=generator)[:count]]
        return FixedViews(square)
    if count is None:
        return views
    return FixedViews(views.sample(count, generator)[0])


def camera_extent(
    views: OrbitViews | FixedViews, frame: SceneFrame, *, cameras: Cameras | None = None
) -> float:
    """1.1 × the largest distance of a camera from the mean of all cameras, the scale of the means' learning rate.

    All of the user's `cameras` count where there are some, not only those that `views` draws from.
    """
    if cameras is not None:
        positions = cameras.positions
    elif isinstance(views, OrbitViews):
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
