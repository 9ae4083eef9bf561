"""A selection made elsewhere: indices or booleans in a .npy or .pt, or the selected Gaussians as a scene file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.scene.formats import load_gaussians
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.mask import Mask, MaskContext
from gs_ssd.scene.source import check_file

_LARGEST = 1 << 31  # bytes
_SAME = 0.99  # share of a crop's Gaussians that must be the scene's; a program may repair a row or two


class File(Mask):
    """The selection in the file `path`.

    * .npy, .pt: [N] booleans (or zeros and ones), or the indices of the selected ones, in the scene file's order.
      GaussianEditor and official SSD write the former as gs_mask.pt.
    * .ply and every other scene format that keeps positions exactly: the selected Gaussians, cropped out of the scene
      in a program such as SuperSplat and not moved.
    """

    hint = "is it this scene's?"

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = str(path)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        path = check_file(Path(self.path).expanduser(), most=_LARGEST)
        if path.suffix.lower() == ".npy":
            values = torch.from_numpy(_array(path))
        elif path.suffix.lower() in (".pt", ".pth"):
            values = _tensor(path)
        else:
            return self._cropped(gaussians, load_gaussians(path))
        return self._chosen(values, len(gaussians)).to(gaussians.device)

    def _chosen(self, values: Tensor, n: int) -> Tensor:
        """[n] bool from booleans or indices."""
        if values.is_floating_point() and bool(((values == 0) | (values == 1)).all()):
            values = values.bool()
        values = values.squeeze()
        values = values[None] if values.dim() == 0 else values
        if values.dim() != 1 or values.is_floating_point() or values.is_complex():
            raise UserError(
                f"{self.path}: holds {str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}, expected "
                f"{n:,} booleans or a list of indices"
            )
        whole = values.long() if values.dtype != torch.bool else values
        if whole.dtype != torch.bool and len(whole) == n and bool(((whole == 0) | (whole == 1)).all()):
            whole = whole.bool()
        if whole.dtype == torch.bool:
            if len(whole) != n:
                raise UserError(
                    f"{self.path}: says yes or no to {len(whole):,} Gaussians, the scene has {n:,}; it belongs to "
                    "another scene"
                )
            return whole
        if len(whole) and not 0 <= int(whole.min()) <= int(whole.max()) < n:
            raise UserError(
                f"{self.path}: names the Gaussians {int(whole.min()):,} to {int(whole.max()):,}, the scene has 0 to "
                f"{n - 1:,}; it belongs to another scene"
            )
        return torch.zeros(n, dtype=torch.bool).index_fill_(0, whole, True)

    def _cropped(self, gaussians: Gaussians, crop: Gaussians) -> Tensor:
        scene, wanted = (_keys(scene.means) for scene in (gaussians, crop))
        known = np.isin(wanted, scene).mean()
        if known < _SAME:
            raise UserError(
                f"{self.path}: {100 * (1 - known):.0f} % of its Gaussians aren't in the scene; crop this scene without "
                "moving it, and save it as .ply"
            )
        return torch.from_numpy(np.isin(scene, wanted)).to(gaussians.device)


def _array(path: Path) -> np.ndarray:
    try:
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # numpy meets arbitrary bytes here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not an .npy of indices or booleans ({reason})") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path}: not an .npy of indices or booleans but of {array.dtype}")
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _tensor(path: Path) -> Tensor:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch meets arbitrary bytes here
        raise UserError(
            f"{path}: not a tensor of indices or booleans; save it with torch.save(mask)"
        ) from error
    if not isinstance(values, Tensor) or values.numel() * values.element_size() > path.stat().st_size:
        raise UserError(f"{path}: not a tensor of indices or booleans; save it with torch.save(mask)")
    return values


def _keys(means: Tensor) -> np.ndarray:
    """[N] the bytes of each position, to be compared as one value."""
    means = means.detach().float().cpu().contiguous() + 0.0  # -0.0 and 0.0 are one place
    return np.ascontiguousarray(means.numpy()).view([("", "V12")])[:, 0]
