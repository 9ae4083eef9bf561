"""Training checkpoints: gsplat's simple_trainer (.pt) and nerfstudio's splatfacto (.ckpt).

gsplat      {"step": ..., ["antialiased": bool,] "splats": {"means", "scales", "quats", "opacities", "sh0", "shN"}}
splatfacto  {"pipeline": {"_model.gauss_params.means", ..., ".features_dc", ".features_rest"}, ...}
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians

_SPLATFACTO = "_model.gauss_params."


def read(path: Path) -> Gaussians:
    """Read the Gaussians of a checkpoint. Only tensors and plain values are unpickled, never code."""
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors; export a .ply with the trainer and use that"
        ) from error
    tensors = _splatfacto(content) or _gsplat(content)
    if not tensors:
        raise UserError(
            f"{path}: holds neither gsplat's `splats` nor nerfstudio's `{_SPLATFACTO}*`; "
            "export a .ply with the trainer and use that"
        )
    missing = [name for name in ("means", "scales", "quats", "opacities", "sh0") if name not in tensors]
    if missing:
        raise UserError(f"{path}: the checkpoint lacks {', '.join(missing)}")
    antialiased = isinstance(content, dict) and content.get("antialiased") is True
    return replace(_gaussians(tensors, path), antialiased=antialiased)


def _check_archive(path: Path) -> None:
    """Refuse a zip that unpacks to more than it has: torch stores its tensors uncompressed."""
    if not zipfile.is_zipfile(path):
        return  # the older layout, without an archive
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise UserError(f"{path}: unpacks to {unpacked:,} bytes, which no checkpoint does; export a .ply")


def write(gaussians: Gaussians, path: Path) -> None:
    """Write a checkpoint in gsplat's layout."""
    flag = {"antialiased": True} if gaussians.antialiased else {}
    torch.save({"step": 0, **flag, "splats": gaussians.tensors()}, path)


def _gsplat(content: object) -> dict[str, Tensor]:
    splats = content.get("splats") if isinstance(content, dict) else None
    return splats if isinstance(splats, dict) else {}


def _splatfacto(content: object) -> dict[str, Tensor]:
    state = content.get("pipeline") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        return {}
    names = {"features_dc": "sh0", "features_rest": "shN"}
    found = {
        key.removeprefix(_SPLATFACTO): value
        for key, value in state.items()
        if str(key).startswith(_SPLATFACTO)
    }
    return {names.get(key, key): value for key, value in found.items()}


def _gaussians(tensors: dict[str, Tensor], path: Path) -> Gaussians:
    """The tensors as Gaussians: splatfacto keeps opacities [N, 1] and features_dc [N, 3]."""
    bad = [
        name
        for name, value in tensors.items()
        if not isinstance(value, Tensor) or not value.is_floating_point()
    ]
    if bad:
        raise UserError(f"{path}: {', '.join(map(str, bad))} in the checkpoint is not a float tensor")
    wild = [
        name for name, value in tensors.items() if value.layout != torch.strided or value.device.type != "cpu"
    ]
    if wild:
        raise UserError(f"{path}: {', '.join(wild)} in the checkpoint holds no plain numbers; export a .ply")
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    if size > path.stat().st_size:  # expanded tensors repeat a few numbers without end
        raise UserError(
            f"{path}: the checkpoint's tensors stand for {size:,} bytes, more than the file has; export a .ply"
        )
    values = {name: value.detach().float() for name, value in tensors.items()}
    n = len(values["means"])
    try:
        return Gaussians(
            means=values["means"],
            scales=values["scales"],
            quats=values["quats"],
            opacities=values["opacities"].reshape(n),
            sh0=values["sh0"].reshape(n, 1, 3),
            shN=values.get("shN", torch.zeros(n, 0, 3)),
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path}: the checkpoint's tensors don't fit together: {error}") from error
