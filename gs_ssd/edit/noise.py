"""View-consistent noise: the same point of a surface gets the same noise in every view (Yan et al., "Consistent Flow
Distillation", ICLR 2025).

White noise that sticks to a surface can't be interpolated, for that would blur it. It is summed: the surface is cut
into small cubes, each with a fixed unit Gaussian n per channel; a latent cell that sees K of them gets

    ε = (1/√K) Σ n

and each cube counts for one cell alone, the first in reading order that sees it. So the noise of one view is exactly
white and of unit variance, whatever the geometry; between views, two cells that see the same K cubes have the same
noise, and two that share m of K and L have the correlation m/√(K L). Cells that see no surface get fresh noise.

The cubes are found by looking: the scene's expected depth is rendered with `SAMPLES` x `SAMPLES` points per latent
cell, each point goes back into the world and falls into a cube. A cube's noise is the entry of a table that its
coordinates hash to; an entry that two visible cubes share counts once too.

What the authors' has and this leaves out: their noise follows the triangles that a pixel's corners span on the
surface, so that its statistics do not depend on a resolution of cubes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.render import Render
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians

SAMPLES = 4  # points per side of a latent cell
CUBES = 3.0  # cubes per side of a latent cell, at the first view's distance
ENTRIES = 128  # of the table, per latent cell
PRIMES = (73856093, 19349663, 83492791)  # the usual spatial hash


class ConsistentNoise:
    """Noise that sticks to the scene.

    Args:
        renew: how much of the table is redrawn before each step: √(1 − renew) n + √renew n'. 0 keeps it for the whole
            edit, as the flow of one noise; 1 shares noise among the views of one step alone.
    """

    def __init__(self, *, renew: float = 0.0) -> None:
        self.renew = number("noise.renew", renew, least=0, most=1)
        self.table: Tensor | None = None  # [entries, C]
        self.cube = 0.0  # side of a cube, world units

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        renderer: Callable[..., Render],
        shape: torch.Size,
        generator: torch.Generator,
    ) -> Tensor:
        """ε [B, C, h, w] for B cameras, on the CPU."""
        self._renew(shape, generator)
        noise = torch.randn(shape, generator=generator)
        for index in range(shape[0]):
            entries, cells = self.seen(gaussians, cameras[index], renderer, shape)
            flat = noise[index].reshape(shape[1], -1)
            flat.copy_(self.paint(flat, entries, cells))
        return noise

    def _renew(self, shape: torch.Size, generator: torch.Generator) -> None:
        size = (ENTRIES * shape[2] * shape[3], shape[1])
        if self.table is None:
            self.table = torch.randn(size, generator=generator)
        elif self.renew:
            fresh = torch.randn(size, generator=generator)
            self.table = (1 - self.renew) ** 0.5 * self.table + self.renew**0.5 * fresh

    @torch.no_grad()
    def seen(
        self, gaussians: Gaussians, camera: Cameras, renderer: Callable[..., Render], shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """The table's entries [n] that one camera sees, each once, and the latent cell [n] that each counts for."""
        height, width = shape[2] * SAMPLES, shape[3] * SAMPLES
        fine = camera.resized(width, height)
        out = renderer(gaussians, fine, render_mode="RGB+ED")
        assert out.depth is not None
        solid = out.alpha[0, ..., 0].cpu() > 0.5
        points = unproject(out.depth[0, ..., 0].cpu(), fine)[solid]
        if self.cube == 0.0 and len(points):
            depth = out.depth[0, ..., 0].cpu()[solid].median()
            self.cube = float(depth * SAMPLES / (CUBES * fine.Ks[0, 0, 0].cpu()))
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        cells = (rows // SAMPLES * shape[3] + columns // SAMPLES)[solid]
        assert self.table is not None
        return first_seen(hashed(points, self.cube or 1.0, len(self.table)), cells)

    def paint(self, noise: Tensor, entries: Tensor, cells: Tensor) -> Tensor:
        """`noise` [C, cells] with (1/√K) Σ n where a cell sees K entries."""
        assert self.table is not None
        count = torch.zeros(noise.shape[1]).index_add_(0, cells, torch.ones(len(cells)))
        total = torch.zeros_like(noise).index_add_(1, cells, self.table[entries].T.contiguous())
        return torch.where(count > 0, total / count.clamp(min=1).sqrt(), noise)

    def state_dict(self) -> dict[str, Any]:
        """The table and the size of its cubes."""
        return {"table": self.table, "cube": self.cube} if self.table is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.table, self.cube = state.get("table"), state.get("cube", 0.0)


def unproject(depth: Tensor, camera: Cameras) -> Tensor:
    """World points [H, W, 3] of a depth map [H, W] (along the optical axis) seen by one camera."""
    height, width = depth.shape
    K, view = camera.Ks[0].to(depth), camera.viewmats[0].to(depth)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x = (columns.to(depth) - K[0, 2]) / K[0, 0] * depth
    y = (rows.to(depth) - K[1, 2]) / K[1, 1] * depth
    return (torch.stack([x, y, depth], dim=-1) - view[:3, 3]) @ view[:3, :3]


def hashed(points: Tensor, cube: float, entries: int) -> Tensor:
    """The table entry [N] of the cube that each point [N, 3] lies in."""
    corner = torch.floor(points / cube).long()
    mixed = corner[:, 0] * PRIMES[0] ^ corner[:, 1] * PRIMES[1] ^ corner[:, 2] * PRIMES[2]
    return mixed % entries


def first_seen(entries: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Each entry once, with the cell in which it is met first."""
    order = torch.argsort(entries, stable=True)
    grouped = entries[order]
    first = torch.ones(len(grouped), dtype=torch.bool)
    first[1:] = grouped[1:] != grouped[:-1]
    return grouped[first], cells[order][first]
