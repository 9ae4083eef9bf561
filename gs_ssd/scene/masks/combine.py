"""Selections made of others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.mask import Mask, MaskContext


class Combined(Mask):
    """Several masks as one."""

    hint = "look at each of its masks alone"

    def __init__(self, masks: Sequence[Mask]) -> None:
        self.masks = list(masks)
        if not self.masks:
            raise UserError(f"mask={type(self).__name__.lower()} needs at least one mask")

    def _all(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return torch.stack([mask.find(gaussians, context) for mask in self.masks])

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} of {', '.join(map(str, self.masks))}"


class Union(Combined):
    """In any of `masks`."""

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return self._all(gaussians, context).any(dim=0)


class Intersection(Combined):
    """In all of `masks`."""

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return self._all(gaussians, context).all(dim=0)


class Difference(Combined):
    """In the first of `masks` and in none of the others."""

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        first, *others = self._all(gaussians, context)
        return first & ~torch.stack(others).any(dim=0) if others else first


class Invert(Mask):
    """All but `mask`."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return ~self.mask.find(gaussians, context)


class Grow(Mask):
    """`mask`, and what lies within `distance` (world units) of one of its Gaussians."""

    def __init__(self, mask: Mask, distance: float) -> None:
        self.mask, self.distance = mask, number("mask.distance", distance, least=0)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        chosen = self.mask.find(gaussians, context)
        return chosen | near(gaussians, chosen, self.distance)


class Shrink(Mask):
    """`mask` without what lies within `distance` (world units) of a Gaussian outside it."""

    def __init__(self, mask: Mask, distance: float) -> None:
        self.mask, self.distance = mask, number("mask.distance", distance, least=0)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        chosen = self.mask.find(gaussians, context)
        return chosen & ~near(gaussians, ~chosen, self.distance)


def near(gaussians: Gaussians, chosen: Tensor, distance: float) -> Tensor:
    """[N] bool: which centres lie within `distance` of the centre of a `chosen` [N] Gaussian."""
    if not bool(chosen.any()):
        return torch.zeros_like(chosen)
    points = gaussians.means.detach().double().cpu().numpy()
    nearest, _ = cKDTree(points[chosen.cpu().numpy()]).query(
        points, distance_upper_bound=distance * (1 + 1e-9)
    )
    return torch.from_numpy(nearest <= distance).to(chosen.device)
