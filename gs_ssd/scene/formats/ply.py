"""The .ply layout of the original 3D Gaussian Splatting code, SH degree 0 to 3.

One `vertex` row per Gaussian: x y z nx ny nz f_dc_0..2 f_rest_0..3(K-1)-1 opacity scale_0..2 rot_0..3, all
float32 and unactivated. `f_rest` is channel-major: all red coefficients, then all green, then all blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement

from gs_ssd.errors import UserError
from gs_ssd.scene.formats.header import read_header
from gs_ssd.scene.gaussians import Gaussians

_POSITION = ("x", "y", "z")
_COLOUR = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_REQUIRED = (*_POSITION, *_COLOUR, "opacity", *_SCALE, *_ROTATION)
_REST_COUNTS = {0: 0, 9: 3, 24: 8, 45: 15}  # number of f_rest properties -> K-1
_BLOCK = 1 << 14  # rows gathered at a time, so that they stay in the cache over all columns


def read(path: Path) -> Gaussians:
    """Read a .ply in any byte order or as text, properties in any order; unknown ones are ignored."""
    header = read_header(path)
    names = header.names("vertex")
    _check_properties(names, header.names("face"), path)
    if any("list" in element.types.values() and element.count for element in header.elements.values()):
        raise UserError(f"{path}: has list properties, which a Gaussian .ply never has; export it again")

    vertex = PlyData.read(str(path))["vertex"].data

    def columns(*wanted: str) -> torch.Tensor:
        return torch.from_numpy(_table(vertex, wanted))

    n, rest = len(vertex), _rest_names(sum(name.startswith("f_rest_") for name in names))
    return Gaussians(
        means=columns(*_POSITION),
        scales=columns(*_SCALE),
        quats=columns(*_ROTATION),
        opacities=columns("opacity")[:, 0],
        sh0=columns(*_COLOUR)[:, None],
        shN=columns(*rest).reshape(n, 3, len(rest) // 3).transpose(1, 2).contiguous(),
    )


def write(gaussians: Gaussians, path: Path) -> None:
    """Write binary little-endian float32 without header comments, the form every viewer opens."""
    rest = gaussians.shN.transpose(1, 2).reshape(len(gaussians), 3 * gaussians.shN.shape[1])
    columns = [
        gaussians.means,
        torch.zeros_like(gaussians.means),
        gaussians.sh0[:, 0],
        rest,
        gaussians.opacities[:, None],
        gaussians.scales,
        gaussians.quats,
    ]
    table = torch.cat(columns, dim=1).float().numpy()
    names = (
        *_POSITION,
        "nx",
        "ny",
        "nz",
        *_COLOUR,
        *_rest_names(rest.shape[1]),
        "opacity",
        *_SCALE,
        *_ROTATION,
    )
    rows = np.ascontiguousarray(table, dtype="<f4").view([(name, "<f4") for name in names])[:, 0]
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(path))


def _table(vertex: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The named properties as float32 [N, len(names)]."""
    table = np.empty((len(vertex), len(names)), dtype=np.float32)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which the validation handles
        for start in range(0, len(vertex), _BLOCK):
            for column, name in enumerate(names):
                table[start : start + _BLOCK, column] = vertex[name][start : start + _BLOCK]
    return table


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{i}" for i in range(count)]


def _check_properties(names: set[str], face_names: set[str], path: Path) -> None:
    if not names:
        raise UserError(f"{path}: has no vertex element, so no Gaussians")
    missing = [name for name in _REQUIRED if name not in names]
    if missing and names.isdisjoint({*_COLOUR, *_SCALE, *_ROTATION}):
        what = "a mesh" if face_names else "a point cloud"
        raise UserError(
            f"{path}: is {what}, not a 3D Gaussian Splatting scene (no {', '.join(missing[:3])}, ...); "
            "train a splat from it first, or choose the trainer's point_cloud.ply"
        )
    if missing:
        raise UserError(f"{path}: lacks the properties {', '.join(missing)} of a Gaussian .ply")
    rest = {name for name in names if name.startswith("f_rest_")}
    if len(rest) not in _REST_COUNTS or rest != set(_rest_names(len(rest))):
        raise UserError(
            f"{path}: {len(rest)} f_rest properties fit no SH degree; "
            "expected f_rest_0 onwards with 0, 9, 24 or 45 of them (degree 0 to 3)"
        )
