"""Regions of space: a Gaussian belongs to one where its centre lies in it. World units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gs_ssd.checks import number, vector
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.mask import Mask, MaskContext


class Sphere(Mask):
    """Within `radius` of `center` [3]."""

    def __init__(self, center: Sequence[float], radius: float) -> None:
        self.center = list(vector("mask.center", center, 3))
        self.radius = number("mask.radius", radius, above=0)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        center = gaussians.means.new_tensor(self.center)
        return (gaussians.means - center).norm(dim=-1) <= self.radius


class Box(Mask):
    """Between the corners `low` and `high` [3], turned about its middle.

    `rotation_degrees` [3] turns about x, then y, then z, right-handed.
    """

    def __init__(
        self, low: Sequence[float], high: Sequence[float], rotation_degrees: Sequence[float] = (0.0, 0.0, 0.0)
    ) -> None:
        self.low, self.high = list(vector("mask.low", low, 3)), list(vector("mask.high", high, 3))
        self.rotation_degrees = list(vector("mask.rotation_degrees", rotation_degrees, 3))
        if any(a > b for a, b in zip(self.low, self.high)):
            raise UserError(f"mask.low={self.low} must lie below mask.high={self.high} on every axis")

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        means = gaussians.means
        if any(self.rotation_degrees):
            middle = (means.new_tensor(self.low) + means.new_tensor(self.high)) / 2
            means = (means - middle) @ _rotation(self.rotation_degrees).to(means) + middle  # the inverse turn
        inside = (means >= means.new_tensor(self.low)) & (means <= means.new_tensor(self.high))
        return inside.all(dim=-1)


class HalfSpace(Mask):
    """On the side of the plane through `point` [3] to which `normal` [3] points."""

    def __init__(self, point: Sequence[float], normal: Sequence[float]) -> None:
        self.point, self.normal = list(vector("mask.point", point, 3)), list(vector("mask.normal", normal, 3))
        if not any(self.normal):
            raise UserError("mask.normal=[0, 0, 0] points nowhere; give a direction such as [0, -1, 0]")

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        means = gaussians.means
        return (means - means.new_tensor(self.point)) @ means.new_tensor(self.normal) >= 0


def _rotation(degrees: Sequence[float]) -> Tensor:
    """[3, 3] of turns about x, then y, then z."""
    matrix = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(torch.tensor(degrees, dtype=torch.float64).deg2rad()):
        turn = torch.eye(3, dtype=torch.float64)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = angle.cos()
        turn[i, j], turn[j, i] = -angle.sin(), angle.sin()
        matrix = turn @ matrix
    return matrix
