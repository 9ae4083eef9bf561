"""SuperSplat's compressed .ply: chunks of 256 Gaussians, 16 bytes each and one more per SH coefficient.

Reading and writing is gsply's; the header is checked here because gsply trusts its counts.
"""

from __future__ import annotations

from pathlib import Path

import gsply
import numpy as np
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene.formats.header import PlyHeader, read_header
from gs_ssd.scene.gaussians import Gaussians

_AXES = (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
_BOUNDS = [f"{side}_{axis}" for axes in _AXES for side in ("min", "max") for axis in axes]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_CHUNK = 256


def read(path: Path) -> Gaussians:
    """Read a compressed .ply whose chunks hold colour bounds (SuperSplat 1.0 and later)."""
    _check_layout(read_header(path), path)
    data = gsply.decompress_from_bytes(path.read_bytes())
    n = len(data.means)

    def tensor(array: np.ndarray, *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.array(array, dtype=np.float32)).reshape(n, *shape)

    return Gaussians(
        means=tensor(data.means, 3),
        scales=tensor(data.scales, 3),
        quats=tensor(data.quats, 4),
        opacities=tensor(data.opacities),
        sh0=tensor(data.sh0, 1, 3),
        shN=tensor(data.shN, data.shN.size // (3 * n), 3),
    )


def write(gaussians: Gaussians, path: Path) -> None:
    """Write a compressed .ply in the Gaussians' own order."""
    arrays = {name: value.float().numpy() for name, value in gaussians.tensors().items()}
    path.write_bytes(
        gsply.compress_to_bytes(
            arrays["means"],
            scales=arrays["scales"],
            quats=arrays["quats"],
            opacities=arrays["opacities"],
            sh0=arrays["sh0"][:, 0],
            shN=arrays["shN"] if gaussians.sh_degree else None,
        )
    )


def is_compressed(header: PlyHeader) -> bool:
    """Whether the header is a compressed .ply's, whatever the file is called."""
    return "chunk" in header.elements or "packed_position" in header.names("vertex")


def _check_layout(header: PlyHeader, path: Path) -> None:
    layout = [(name, list(element.types)) for name, element in header.elements.items()]
    if header.text or layout[:2] != [("chunk", _BOUNDS), ("vertex", _PACKED)]:
        raise UserError(f"{path}: an unknown compressed .ply layout; save it again from a current SuperSplat")
    chunks, vertices = header.elements["chunk"], header.elements["vertex"]
    sh = header.elements.get("sh")
    kinds = {*chunks.types.values()}, {*vertices.types.values()}, {*sh.types.values()} if sh else {"uchar"}
    if not (
        kinds[0] <= {"float", "float32"} and kinds[1] <= {"uint", "uint32"} and kinds[2] <= {"uchar", "uint8"}
    ):
        raise UserError(f"{path}: the compressed .ply has unexpected property types; save it again")
    if sh and (len(sh.types) not in (9, 24, 45) or sh.count != vertices.count or layout[2][0] != "sh"):
        raise UserError(
            f"{path}: {len(sh.types)} SH bytes for {sh.count} of {vertices.count} Gaussians fit no degree"
        )
    if vertices.count == 0:
        raise UserError(f"{path}: holds no Gaussians")
    if chunks.count * _CHUNK < vertices.count:
        raise UserError(
            f"{path}: {chunks.count} chunks are too few for {vertices.count} Gaussians; save it again"
        )
