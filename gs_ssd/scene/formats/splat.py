"""The .splat layout of the antimatter15 web viewer: 32 bytes per Gaussian, no header, SH degree 0.

A record is float32 position and standard deviations, then bytes rgba and quaternion wxyz as (q - 128) / 128.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import SH_C0, Gaussians

_RECORD = np.dtype(
    [("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)], align=False
)
_QUAT_ERROR = 0.05  # of a norm of 1; rounding to bytes gives 0.01
_PLAUSIBLE = 0.75  # share of the records
_FLATTEST = 1e-12  # world units; the log of a zero standard deviation would be -inf


def read(path: Path) -> Gaussians:
    """Read a .splat. Raises UserError when the size or the numbers show that it is something else."""
    size = path.stat().st_size
    if size % _RECORD.itemsize:
        raise UserError(
            f"{path}: {size:,} bytes is no multiple of 32, so truncated or not a .splat; download it again"
        )
    records = np.fromfile(path, dtype=_RECORD)
    _check_plausible(records, path)
    alpha = torch.from_numpy(records["rgba"][:, 3].astype(np.float32)).clamp(0.25, 254.75) / 255
    rgb = torch.from_numpy(records["rgba"][:, :3].astype(np.float32)) / 255
    return Gaussians(
        means=torch.from_numpy(records["position"].copy()),
        scales=torch.from_numpy(np.maximum(records["scale"], _FLATTEST)).log(),
        quats=(torch.from_numpy(records["quat"].astype(np.float32)) - 128) / 128,
        opacities=alpha.logit(),
        sh0=((rgb - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(len(records), 0, 3),
    )


def write(gaussians: Gaussians, path: Path) -> None:
    """Write a .splat in the Gaussians' own order, without view-dependent colour."""
    records = np.empty(len(gaussians), dtype=_RECORD)
    quats = torch.nn.functional.normalize(gaussians.quats.float(), dim=-1)
    rgba = torch.cat([gaussians.rgb, gaussians.opacities.sigmoid()[:, None]], dim=1).float()
    records["position"] = gaussians.means.float().numpy()
    records["scale"] = gaussians.scales.float().exp().numpy()
    records["rgba"] = (255 * rgba).round().numpy()
    records["quat"] = (128 * quats + 128).round().clamp(0, 255).numpy()
    records.tofile(path)


def _check_plausible(records: np.ndarray, path: Path) -> None:
    """A .splat has no signature: most of its numbers must be positions, deviations and directions.

    Every writer normalises the quaternions, which the bytes of another kind of file don't happen to be.
    """
    with np.errstate(invalid="ignore"):
        numbers = np.isfinite(records["position"]).all(1) & (np.abs(records["position"]) < 1e9).all(1)
        plausible = numbers & (records["scale"] >= 0).all(1) & (records["scale"] < 1e9).all(1)
    norms = np.linalg.norm((records["quat"].astype(np.float32) - 128) / 128, axis=1)
    if (plausible & (np.abs(norms - 1) < _QUAT_ERROR)).mean() < _PLAUSIBLE:
        raise UserError(
            f"{path}: the numbers in it are not those of a .splat; it is damaged or another format"
        )
