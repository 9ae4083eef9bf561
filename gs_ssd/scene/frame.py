"""Where the object is and which way is up, found from the Gaussians alone.

Captures hold more than their object: floaters, walls, a sky far away. So the object is taken to be the ball with the
most opacity for its radius, and its extent comes from quantiles inside that ball; no mean over the whole scene is used.

Georeferenced scenes lie 1e5 to 1e6 units from the origin, where float32 squares lose the object. So everything is
measured in float64 from the Gaussians' median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gs_ssd.checks import choice, number, vector
from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians

AXES = {f"{sign}{axis}": i for i, axis in enumerate("xyz") for sign in "+-"}

_SAMPLE = 4096  # points used for the search; the extent is measured on all of them
_STARTS = 32
_LEAST_MASS = 0.1  # an object has at least this share of the opacity
_REACH = 10  # object radii within which something of the scene must lie
_TAIL = 0.005  # share of the opacity cut off on either side of every axis

_PLANES = 1500  # candidate floors tried
_FLOOR_SHARE = 0.12  # a floor holds at least this share of the opacity around the object
_FLOOR_THICKNESS = 0.03  # object radii to either side
_FLOOR_TILT = 40.0  # degrees from -y; a capture is rarely tilted more
_Z_FLOOR_TILT = 15.0  # degrees from +z; stricter, because a wall behind the object looks the same


@dataclass(frozen=True)
class SceneFrame:
    """The object's place in the world: `center` [3] and `radius` of the sphere around it, in world units.

    `up` [3] is a unit vector.
    """

    center: Tensor
    up: Tensor
    radius: float


def find_frame(
    gaussians: Gaussians,
    *,
    up: str | Sequence[float] = "auto",
    center: Sequence[float] | None = None,
    radius: float | None = None,
    cameras: Cameras | None = None,
) -> SceneFrame:
    """The frame of a scene, on the CPU; nothing is searched for that `center` [3] and `radius` (world units) say.

    `up` is an axis such as "-y" or "+z", a direction [3], or "auto": the cameras' mean up direction where there are
    cameras, else the normal of the floor if the scene clearly has one, else -y, the convention of 3D Gaussian Splatting
    files. Raises UserError where nothing of the scene lies near `center`.
    """
    worded = isinstance(up, str | None)
    up = choice("scene.up", up, ["auto", *AXES]) if worded else vector("scene.up", up, 3)
    if not any(isinstance(up, str) or value for value in up):
        raise UserError("scene.up=[0, 0, 0] points nowhere; give a direction such as [0, -1, 0]")
    points = gaussians.means.detach().double().cpu()
    origin = points.median(dim=0).values
    points = points - origin
    weights = gaussians.opacities.detach().double().cpu().sigmoid() + 1e-6  # never all zero
    middle: Tensor | None = None
    if center is not None:
        middle = torch.tensor(vector("scene.center", center, 3), dtype=torch.float64) - origin
    if radius is not None:
        radius = number("scene.radius", radius, above=0, most=1e9)
    if middle is None or radius is None:
        found_middle, found_radius = _object(points, weights)
        middle = found_middle if middle is None else middle
        radius = radius or max(found_radius, gaussians.scales.detach().float().exp().median().item())
    nearest = (points - middle).norm(dim=1).min().item()
    if nearest > _REACH * radius:
        raise UserError(
            f"scene.center={(middle + origin).tolist()} is {nearest:.3g} units away from every Gaussian, at a radius "
            f"of {radius:.3g}; the scene's median is {[round(value, 3) for value in origin.tolist()]}"
        )
    return SceneFrame(
        center=(middle + origin).float(),
        up=_up(up, points, weights, middle, radius, cameras),
        radius=radius,
    )


def _object(points: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """Centre [3] and radius of the object; the radius is 0 where all of it is in one place."""
    center, ball = _densest_ball(points, weights)
    ball = _with_protrusions(points, weights, center, ball)
    inside = (points - center).norm(dim=1) <= ball * (1 + 1e-9)  # the one that sets the ball, too
    low, high = _quantiles(points[inside], weights[inside], [_TAIL, 1 - _TAIL])
    center = (low + high) / 2
    distances = (points[inside, None] - center).norm(dim=2)
    return center, _quantiles(distances, weights[inside], [1 - _TAIL])[0].item()


def axis_vector(name: str) -> Tensor:
    """The unit vector [3] of an axis name such as "-y"."""
    vector = torch.zeros(3)
    vector[AXES[name]] = 1.0 if name[0] == "+" else -1.0
    return vector


def _densest_ball(points: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """The centre [3] and radius of the ball that maximises mass / sqrt(radius).

    The exponent decides between an object and its surroundings: an object with 1/3 of the mass wins against a whole
    scene more than 9 times its size, while a dense detail with 1/5 of the mass loses unless it is 25 times smaller.
    """
    chosen = torch.linspace(0, len(points) - 1, min(len(points), _SAMPLE)).long()
    points, weights = points[chosen], weights[chosen]
    starts = torch.linspace(0, len(points) - 1, min(len(points), _STARTS)).long()
    median = _quantiles(points, weights, [0.5])
    centers = torch.cat([median, points[starts]])
    for _ in range(4):
        distances = torch.cdist(centers, points, compute_mode="donot_use_mm_for_euclid_dist")
        ordered, order = distances.sort(dim=1)
        mass = weights[order].cumsum(dim=1) / weights.sum()
        score = mass / ordered.clamp_min(1e-12).sqrt()
        best_score, best = torch.where(mass >= _LEAST_MASS, score, 0.0).max(dim=1)
        radii = ordered.gather(1, best[:, None])
        winner = best_score.argmax()
        center, radius = centers[winner], radii[winner].item()
        inside = (distances <= radii) * weights
        centers = inside @ points / inside.sum(dim=1, keepdim=True)
    return center, radius


def _with_protrusions(points: Tensor, weights: Tensor, center: Tensor, ball: float) -> float:
    """The ball, doubled if that adds under a tenth of its mass: an arm or a leaf, not the surroundings."""
    distances = (points - center).norm(dim=1)
    mass, doubled = weights[distances <= ball].sum(), weights[distances <= 2 * ball].sum()
    return 2 * ball if doubled < 1.1 * mass else ball


def _quantiles(values: Tensor, weights: Tensor, levels: list[float]) -> Tensor:
    """Weighted quantiles of every column of `values` [P, D], as [len(levels), D]."""
    ordered, order = values.sort(dim=0)
    mass = weights[order].cumsum(dim=0)
    targets = torch.tensor(levels, dtype=mass.dtype)[:, None] * mass[-1]
    index = torch.searchsorted(mass.T.contiguous(), targets.T.contiguous()).T.clamp_max(len(values) - 1)
    return ordered.gather(0, index)


def _up(
    up: str | Sequence[float],
    points: Tensor,
    weights: Tensor,
    center: Tensor,
    radius: float,
    cameras: Cameras | None,
) -> Tensor:
    if isinstance(up, str) and up != "auto":
        return axis_vector(up)
    if not isinstance(up, str):
        direction = torch.tensor(up)
        unit = abs(direction.norm().item() - 1) < 1e-6  # to the bit what another frame said
        return direction if unit else torch.nn.functional.normalize(direction, dim=0)
    if cameras is not None:
        mean = -cameras.viewmats[:, 1, :3].mean(dim=0).float().cpu()
        if mean.norm() > 0.1:  # otherwise the cameras look from all sides and have no common up
            return mean / mean.norm()
    near = (points - center).norm(dim=1) <= 3 * radius
    normals = _floor_normals(((points[near] - center) / radius).float(), weights[near])
    for axis, tilt in (("-y", _FLOOR_TILT), ("+z", _Z_FLOOR_TILT)):
        towards = normals @ axis_vector(axis) >= math.cos(math.radians(tilt))
        if towards.any():
            return normals[towards][0]
    return axis_vector("-y")


def _floor_normals(points: Tensor, weights: Tensor) -> Tensor:
    """Unit normals [F, 3] of the planes that could be a floor, the heaviest first; they point at the object.

    `points` [P, 3] are relative to the object's centre in units of its radius. A floor is thin and heavy, reaches as
    far as the object, and has almost everything else on one side.
    """
    chosen = torch.linspace(0, len(points) - 1, min(len(points), _SAMPLE // 4)).long()
    points, weights = points[chosen], weights[chosen].float()
    corners = torch.randint(len(points), (_PLANES, 3), generator=torch.Generator().manual_seed(0))
    a, b, c = points[corners].unbind(dim=1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    heights = points @ normals.T - (a * normals).sum(dim=1)  # [P, planes]
    normals, offsets = _refitted(points, (heights.abs() < _FLOOR_THICKNESS) * weights[:, None])

    towards = torch.where(offsets > 0, -1.0, 1.0)  # the object's centre, the origin, is above the floor
    heights = (points @ normals.T - offsets) * towards
    on = (heights.abs() < _FLOOR_THICKNESS) * weights[:, None]
    share = on.sum(dim=0) / weights.sum()
    below = ((heights < -_FLOOR_THICKNESS) * weights[:, None]).sum(dim=0) / weights.sum()
    distances = points.square().sum(dim=1, keepdim=True) - offsets.square()  # squared, within the plane
    spread = (on * distances).sum(dim=0) / on.sum(dim=0).clamp_min(1e-9)
    floor = (share >= _FLOOR_SHARE) & (below < 0.05) & (spread >= 0.4)
    return (normals * towards[:, None])[floor][share[floor].argsort(descending=True)]


def _refitted(points: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
    """Normals [F, 3] and offsets [F] of the least-squares planes through `points` [P, 3] with weights `on` [P, F]."""
    total = on.sum(dim=0).clamp_min(1e-9)[:, None]
    means = (on.T @ points) / total
    squares = (on.T @ (points[:, :, None] * points[:, None]).flatten(1)) / total
    covariances = squares.unflatten(1, (3, 3)) - means[:, :, None] * means[:, None]
    normals = torch.linalg.eigh(covariances).eigenvectors[:, :, 0]
    return normals, (normals * means).sum(dim=1)
