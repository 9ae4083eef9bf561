"""Selections made of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.mask import Mask, MaskContext


class Combined(Mask):
    """Several masks as one: a list of them, or a mapping by names of their own."""

    hint = "look at each of its masks alone"

    def __init__(self, of: Sequence[Mask] | Mapping[str, Mask] | Mask) -> None:
        masks = of.values() if isinstance(of, Mapping) else [of] if isinstance(of, Mask) else of
        self.of = list(masks)
        if not self.of:
            raise UserError(f"mask={type(self).__name__.lower()} needs at least one mask")

    def _all(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return torch.stack([mask.find(gaussians, context) for mask in self.of])

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} of {', '.join(map(str, self.of))}"


class Union(Combined):
    """In any of the masks `of`."""

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return self._all(gaussians, context).any(dim=0)


class Intersection(Combined):
    """In all of the masks `of`."""

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return self._all(gaussians, context).all(dim=0)


class Difference(Combined):
    """In the first of the masks `of` and in none of the others."""

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        first, *others = self._all(gaussians, context)
        return first & ~torch.stack(others).any(dim=0) if others else first


class Invert(Mask):
    """All but the mask `of`."""

    hint = "look at the mask that it is made of"

    def __init__(self, of: Mask) -> None:
        self.of = of

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return ~self.of.find(gaussians, context)


class Grow(Mask):
    """The mask `of`, and what lies within `distance` (world units) of one of its Gaussians."""

    hint = "look at the mask that it is made of, or change mask.distance"

    def __init__(self, of: Mask, distance: float) -> None:
        self.of, self.distance = of, number("mask.distance", distance, least=0)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        chosen = self.of.find(gaussians, context)
        return chosen | near(gaussians, chosen, self.distance)


class Shrink(Mask):
    """The mask `of` without what lies within `distance` (world units) of a Gaussian outside it."""

    hint = "look at the mask that it is made of, or change mask.distance"

    def __init__(self, of: Mask, distance: float) -> None:
        self.of, self.distance = of, number("mask.distance", distance, least=0)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        chosen = self.of.find(gaussians, context)
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
