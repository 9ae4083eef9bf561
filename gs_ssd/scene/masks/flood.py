"""The patch around a picked Gaussian: from neighbour to neighbour as long as the colour stays alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gs_ssd.checks import number, vector, whole
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.mask import Mask, MaskContext

_NEIGHBOURS = 8  # the distance to the eighth nearest, at the median, is what "near" means by itself


class Flood(Mask):
    """The Gaussians that steps of at most `distance` reach from the picked one without leaving its colour.

    Args:
        index: the picked Gaussian's place in the file; or
        point: [3] world units, of which the nearest Gaussian is taken.
        distance: world units; None: about eight neighbours.
        colour: the largest difference from the picked one's colour, as the length of an RGB vector in [0, 1]³.
    """

    hint = "raise mask.distance or mask.colour"

    def __init__(
        self,
        index: int | None = None,
        point: Sequence[float] | None = None,
        distance: float | None = None,
        colour: float = 0.15,
    ) -> None:
        if (index is None) == (point is None):
            raise UserError("mask=flood needs one of mask.index (a Gaussian) and mask.point ([x, y, z])")
        self.index = None if index is None else whole("mask.index", index, 0)
        self.point = None if point is None else list(vector("mask.point", point, 3))
        self.distance = None if distance is None else number("mask.distance", distance, above=0)
        self.colour = number("mask.colour", colour, least=0, most=2)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        points = gaussians.means.detach().double().cpu().numpy()
        colours = gaussians.rgb.detach().double().cpu().numpy()
        picked = self._picked(points)
        alike = np.flatnonzero(np.linalg.norm(colours - colours[picked], axis=1) <= self.colour)
        tree = cKDTree(points[alike])
        reached = _reached(tree, int(np.searchsorted(alike, picked)), self.distance or _spacing(points))
        chosen = torch.zeros(len(points), dtype=torch.bool)
        chosen[torch.from_numpy(alike[reached])] = True
        return chosen.to(gaussians.device)

    def _picked(self, points: np.ndarray) -> int:
        if self.index is None:
            return int(np.linalg.norm(points - np.array(self.point), axis=1).argmin())
        if self.index >= len(points):
            raise UserError(f"mask.index={self.index} is none of the scene's {len(points):,} Gaussians")
        return self.index


def _spacing(points: np.ndarray) -> float:
    """The median distance to the eighth nearest neighbour, of up to 4096 of the points [N, 3]."""
    sample = points[np.linspace(0, len(points) - 1, min(len(points), 4096)).astype(int)]
    distances, _ = cKDTree(points).query(sample, k=min(_NEIGHBOURS + 1, len(points)))
    return float(np.median(distances.reshape(len(sample), -1)[:, -1])) or 1e-9


def _reached(tree: cKDTree, start: int, distance: float) -> np.ndarray:
    """[P] bool: the tree's points that steps of at most `distance` reach from the point `start`."""
    reached = np.zeros(tree.n, dtype=bool)
    reached[start] = True
    frontier = np.array([start])
    while len(frontier):
        found = np.zeros(tree.n, dtype=bool)
        for neighbours in tree.query_ball_point(tree.data[frontier], distance):
            found[neighbours] = True
        frontier = np.flatnonzero(found & ~reached)
        reached |= found
    return reached
