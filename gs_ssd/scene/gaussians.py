"""The scene representation: a set of 3D Gaussians, stored unactivated under gsplat's names.

Notation (shapes are fixed across the package):
    means      [N, 3]     centres, world units
    scales     [N, 3]     log of the standard deviations along the principal axes
    quats      [N, 4]     rotation, wxyz, not necessarily normalised
    opacities  [N]        logit of the opacity
    sh0        [N, 1, 3]  degree-0 spherical-harmonic coefficients of the colour
    shN        [N, K-1, 3] the higher ones, K = (degree + 1)²; K-1 may be 0

Beside the six tensors: `antialiased`, whether the scene was trained with opacity compensation ("mip", gsplat's
rasterize_mode "antialiased") and must be rendered so, and `extra`, what else its file holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gs_ssd.scene.extra import Extra

TENSORS = ("means", "scales", "quats", "opacities", "sh0", "shN")
SH_C0 = 0.28209479177387814  # Y_00, so that rgb = 0.5 + SH_C0 * sh0


@dataclass(frozen=True)
class Rows:
    """Which M of a scene's N Gaussians have a tensor of their own, in the scene's order.

    The others are known by their ranks among themselves, which stay when rows come and go.

    places [M] int64: where the rows of that tensor stand in the scene.
    index [N] int32: the row of each of the scene's Gaussians, -1 where it has none.
    """

    places: Tensor
    index: Tensor

    @classmethod
    def of(cls, chosen: Tensor) -> Rows:
        """The rows of a mask [N]."""
        index = torch.where(chosen, chosen.cumsum(0, dtype=torch.int32) - 1, -1)
        return cls(chosen.nonzero()[:, 0], index.to(torch.int32))

    @classmethod
    def beside(cls, places: Tensor, ranks: Tensor) -> tuple[Tensor, Rows]:
        """All rows at `places` [M] beside those others that have the sorted `ranks` [n].

        Returns where these n + M Gaussians stand in the scene, in its order, and the rows among them.
        """
        count = torch.arange(len(places))
        before = places - count  # how many of all others stand before each row
        index = torch.full((len(places) + len(ranks),), -1, dtype=torch.int32)
        own = count + torch.searchsorted(ranks, before)
        index[own] = count.int()
        chosen = torch.empty(len(index), dtype=torch.int64)
        chosen[own] = places
        chosen[index < 0] = ranks + torch.searchsorted(before, ranks, right=True)
        return chosen, cls(own, index)


@dataclass
class Gaussians:
    """N unactivated 3D Gaussians (see the module docstring for shapes and units)."""

    means: Tensor
    scales: Tensor
    quats: Tensor
    opacities: Tensor
    sh0: Tensor
    shN: Tensor
    antialiased: bool = False
    extra: Extra | None = None

    def __post_init__(self) -> None:
        n = len(self.means)
        expected = {"means": (n, 3), "scales": (n, 3), "quats": (n, 4), "opacities": (n,), "sh0": (n, 1, 3)}
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"{name} has shape {tuple(got)}, expected {shape}")
        if self.shN.shape[:1] != (n,) or self.shN.shape[1] not in (0, 3, 8, 15) or self.shN.shape[2:] != (3,):
            raise ValueError(
                f"shN has shape {tuple(self.shN.shape)}, expected ({n}, K-1, 3) with K-1 in 0, 3, 8, 15"
            )
        if self.extra is not None and len(self.extra) != n:
            raise ValueError(f"extra has {len(self.extra)} rows for {n} Gaussians")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        return {0: 0, 3: 1, 8: 2, 15: 3}[self.shN.shape[1]]

    @property
    def device(self) -> torch.device:
        return self.means.device

    def tensors(self) -> dict[str, Tensor]:
        """The six tensors by name, in storage order."""
        return {name: getattr(self, name) for name in TENSORS}

    def map(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """A new set with `function` applied to each of the six tensors; it keeps their number and order of rows."""
        changed: dict[str, Any] = {name: function(value) for name, value in self.tensors().items()}
        return replace(self, **changed)

    def to(self, device: torch.device | str) -> Gaussians:
        return self._with_rows(lambda value: value.to(device))

    def clone(self) -> Gaussians:
        """A detached copy."""
        return self._with_rows(lambda value: value.detach().clone())

    def __getitem__(self, index: slice | Tensor) -> Gaussians:
        """The Gaussians selected by a slice, index tensor or boolean mask."""
        return self._with_rows(lambda value: value[index])

    def _with_rows(self, function: Callable[[Tensor], Tensor]) -> Gaussians:
        """A new set with `function` applied to the rows of each tensor, those of `extra` too."""
        extra = self.extra and self.extra.with_rows(function(self.extra.rows))
        changed: dict[str, Any] = {name: function(value) for name, value in self.tensors().items()}
        return replace(self, extra=extra, **changed)

    @property
    def sh(self) -> Tensor:
        """All colour coefficients, [N, K, 3]."""
        return torch.cat([self.sh0, self.shN], dim=1)

    @property
    def rgb(self) -> Tensor:
        """The view-independent part of the colour, [N, 3], in [0, 1]."""
        return (0.5 + SH_C0 * self.sh0[:, 0]).clamp(0, 1)
