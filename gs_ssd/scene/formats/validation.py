"""What every loaded scene goes through, whatever its format: bad rows are repaired or dropped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians

# Squared in float32 by the rasterizer; anything beyond is damage, and one such Gaussian fogs every view.
_LARGEST_POSITION = 1e9
_LARGEST_LOG_SCALE = 20.0
_LARGEST_COLOUR = 1e4
# exp(2 x) must not underflow to a zero variance.
_SMALLEST_LOG_SCALE = -30.0
# Infinite logits mean fully opaque or transparent; this one is gsplat's alpha limit, 0.999.
_OPAQUE_LOGIT = 6.9


def cleaned(gaussians: Gaussians, path: Path) -> Gaussians:
    """`gaussians` without the rows that no renderer can draw; warns with counts.

    Repaired: infinite opacities, scales of zero, quaternions without a direction. Dropped: any other NaN or
    infinity and absurd sizes. Raises UserError when nothing remains.
    """
    if len(gaussians) == 0:
        raise UserError(f"{path}: holds no Gaussians")
    gaussians = _repaired(gaussians, path)
    finite = _all_rows(gaussians, torch.isfinite)
    sane = (
        (gaussians.means.abs() < _LARGEST_POSITION).all(1)
        & (gaussians.scales < _LARGEST_LOG_SCALE).all(1)
        & (gaussians.sh.abs() < _LARGEST_COLOUR).flatten(1).all(1)
    )
    keep = finite & sane
    if keep.all():
        return gaussians
    n, broken, absurd = len(keep), int((~finite).sum()), int((finite & ~sane).sum())
    reasons = [f"{broken} with NaN or infinite values"] * bool(broken) + [
        f"{absurd} with absurd sizes"
    ] * bool(absurd)
    if not keep.any():
        raise UserError(f"{path}: none of the {n} Gaussians is usable ({', '.join(reasons)})")
    warnings.warn(
        f"{path}: dropped {n - int(keep.sum())} of {n} Gaussians: {', '.join(reasons)}", stacklevel=3
    )
    return gaussians[keep]


def _repaired(gaussians: Gaussians, path: Path) -> Gaussians:
    scales, opacities, quats = gaussians.scales, gaussians.opacities, gaussians.quats
    flat = scales < _SMALLEST_LOG_SCALE
    infinite = opacities.isinf()
    norms = torch.linalg.vector_norm(quats, dim=1, dtype=torch.float64)
    aimless = (norms < 1e-12) | ((norms > 1e12) & norms.isfinite())
    repairs = {
        "scales of zero": flat.any(1),
        "infinite opacities": infinite,
        "quaternions without a direction": aimless,
    }
    counts = [f"{int(rows.sum())} {what}" for what, rows in repairs.items() if rows.any()]
    if not counts:
        return gaussians
    warnings.warn(f"{path}: repaired {', '.join(counts)}", stacklevel=4)
    identity = quats.new_tensor([1.0, 0.0, 0.0, 0.0])
    return replace(
        gaussians,
        scales=torch.where(flat, _SMALLEST_LOG_SCALE, scales),
        quats=torch.where(aimless[:, None], identity, quats),
        opacities=torch.where(infinite, opacities.sign() * _OPAQUE_LOGIT, opacities),
    )


def _all_rows(gaussians: Gaussians, test: Callable[[Tensor], Tensor]) -> Tensor:
    rows = [test(value).reshape(len(gaussians), -1).all(1) for value in gaussians.tensors().values()]
    return torch.stack(rows).all(0)
