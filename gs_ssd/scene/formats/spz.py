"""Niantic's .spz: a gzip stream of quantised columns, about a tenth of a .ply.

The file's axes are right-up-back where .ply and .splat have right-down-front, a half turn about x. gsply packs and
unpacks the columns; the turn, and the check of the lengths it trusts, are here.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import gsply
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians

_HEADER = struct.Struct("<4sIIBBBB")  # magic, version, count, SH degree, fractional bits, flags, reserved
_REST = {0: 0, 1: 9, 2: 24, 3: 45}  # SH bytes per Gaussian
_LARGEST_RATIO = 100  # of unpacked to packed bytes; real files have about 2, a crafted one fills the memory

# Half a turn about x: y and z change sign, and with them the harmonics that are odd in them.
_MEANS = torch.tensor([1.0, -1, -1])
_QUATS = torch.tensor([1.0, 1, -1, -1])
_SH = torch.tensor([-1.0, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])


def read(path: Path) -> Gaussians:
    """Read a .spz of version 1 to 3."""
    _check_lengths(path)
    data = gsply.read_spz(path)
    n = len(data.means)
    shN = torch.zeros(n, 0, 3) if data.shN is None else torch.from_numpy(data.shN).reshape(n, -1, 3)
    return _turned(
        Gaussians(
            means=torch.from_numpy(data.means),
            scales=torch.from_numpy(data.scales),
            quats=torch.from_numpy(data.quats),
            opacities=torch.from_numpy(data.opacities).reshape(n),
            sh0=torch.from_numpy(data.sh0).reshape(n, 1, 3),
            shN=shN,
        )
    )


def write(gaussians: Gaussians, path: Path) -> None:
    """Write version 3, positions as finely as their range allows in 24 bits."""
    arrays = {name: value.float().numpy() for name, value in _turned(gaussians).tensors().items()}
    largest = max(gaussians.means.abs().max().item(), 1e-6)
    data = gsply.GSData.from_arrays(
        means=arrays["means"],
        scales=arrays["scales"],
        quats=arrays["quats"],
        opacities=arrays["opacities"],
        sh0=arrays["sh0"][:, 0],
        shN=arrays["shN"] if gaussians.sh_degree else None,
        format="ply",
    )
    gsply.write_spz(path, data, fractional_bits=min(max(22 - math.ceil(math.log2(largest)), 1), 20))


def _turned(gaussians: Gaussians) -> Gaussians:
    """Half a turn about x; its own inverse."""
    return Gaussians(
        means=gaussians.means * _MEANS,
        scales=gaussians.scales,
        quats=gaussians.quats * _QUATS,
        opacities=gaussians.opacities,
        sh0=gaussians.sh0,
        shN=gaussians.shN * _SH[: gaussians.shN.shape[1], None],
    )


def _check_lengths(path: Path) -> None:
    """Raise UserError unless the stream unpacks to exactly what its header promises."""
    try:
        with path.open("rb") as file, gzip.open(file) as stream:
            if file.read(4) == b"NGSP":
                raise UserError(f"{path}: .spz version 4 is not supported; save it as version 3 or as .ply")
            file.seek(0)
            magic, version, count, degree, *_ = _HEADER.unpack(stream.read(_HEADER.size))
            if magic != b"NGSP" or version not in (1, 2, 3) or degree not in _REST:
                raise UserError(
                    f"{path}: not a .spz of version 1 to 3 with SH degree 0 to 3; save it as .ply"
                )
            promised = count * (16 + (4 if version == 3 else 3) + _REST[degree])
            if promised > _LARGEST_RATIO * path.stat().st_size:
                raise UserError(
                    f"{path}: truncated, the header promises {count:,} Gaussians; download it again"
                )
            if len(stream.read(promised + 1)) != promised:
                raise UserError(
                    f"{path}: doesn't hold the {count:,} Gaussians of its header; download it again"
                )
    except (EOFError, gzip.BadGzipFile, struct.error) as error:
        raise UserError(f"{path}: truncated or not a .spz ({error}); download it again") from error
