"""Pinhole cameras in the OpenCV convention: x right, y down, z forward.

`viewmats` are world-to-camera [C, 4, 4]; `Ks` are intrinsics [C, 3, 3] in pixels with pixel centres at +0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gs_ssd.devices import upload


@dataclass
class Cameras:
    """C cameras that share one image size (pixels)."""

    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.viewmats)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Cameras:
        """The cameras selected by a slice, list or index tensor (an int keeps the batch dimension)."""
        if isinstance(index, int):
            index = [index]
        return Cameras(self.viewmats[index], self.Ks[index], self.width, self.height)

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(upload(self.viewmats, device), upload(self.Ks, device), self.width, self.height)

    @property
    def positions(self) -> Tensor:
        """Camera centres in the world, [C, 3]."""
        rotation, translation = self.viewmats[:, :3, :3], self.viewmats[:, :3, 3]
        return -torch.einsum("cji,cj->ci", rotation, translation)

    def resized(self, width: int, height: int) -> Cameras:
        """The same views at another image size; an aspect change crops or pads symmetrically.

        The larger of the two scale factors is used, so the new frame is filled by the old one.
        """
        factor = max(width / self.width, height / self.height)
        Ks = self.Ks.clone()
        Ks[:, :2] *= factor
        Ks[:, 0, 2] += (width - factor * self.width) / 2
        Ks[:, 1, 2] += (height - factor * self.height) / 2
        return Cameras(self.viewmats, Ks, width, height)


def intrinsics(fov_degrees: float, width: int, height: int) -> Tensor:
    """[3, 3] intrinsics whose field of view spans the shorter image side."""
    focal = 0.5 * min(width, height) / math.tan(math.radians(fov_degrees) / 2)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def look_at(positions: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """World-to-camera matrices [C, 4, 4] of cameras at `positions` [C, 3] that look at `target` [3] or [C, 3].

    `up` [3] is the world direction that points up in the image. Views along `up` are undefined.
    """
    forward = torch.nn.functional.normalize(target - positions, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward), dim=-1), dim=-1)
    down = torch.linalg.cross(forward, right, dim=-1)
    rotation = torch.stack([right, down, forward], dim=-2)
    viewmats = torch.eye(4, dtype=positions.dtype, device=positions.device).repeat(len(positions), 1, 1)
    viewmats[:, :3, :3] = rotation
    viewmats[:, :3, 3] = -torch.einsum("cij,cj->ci", rotation, positions)
    return viewmats
