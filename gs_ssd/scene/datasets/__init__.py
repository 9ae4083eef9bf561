"""Cameras that came with a scene: COLMAP, transforms.json, cameras.json or poses_bounds.npy. No images are needed."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import torch

from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.datasets import cameras_json, colmap, llff, transforms
from gs_ssd.scene.datasets.view import View, combined
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.source import check_file, kind_of

save_cameras = cameras_json.write

_KNOWN = "a COLMAP folder (sparse/0), transforms.json, cameras.json or poses_bounds.npy"
_FILES = ("transforms.json", "transforms_train.json", "cameras.json", "poses_bounds.npy")
_LARGEST = 1 << 31  # bytes; a COLMAP images.bin holds every 2D point
_SAMPLE = 16384  # Gaussians looked at per camera


def load_cameras(path: str | os.PathLike) -> Cameras:
    """The cameras of a dataset, on the CPU: a camera file, or a folder that holds one.

    Cameras of other sizes are fitted to the most common one, distorted ones become pinholes. Raises UserError.
    """
    path = Path(path)
    source = _source(path)
    try:
        return combined(_read(source))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{source}: can't be read: {error.strerror or error}") from error
    except Exception as error:  # parsers meet arbitrary bytes here: whatever they raise is the file's fault
        reason = " ".join(str(error).split())[:160]
        if not isinstance(error, ValueError):
            reason = f"{type(error).__name__}: {reason}"
        raise UserError(f"{source}: no readable cameras ({reason}); expected {_KNOWN}") from error


def visible_cameras(cameras: Cameras, gaussians: Gaussians, *, source: str | os.PathLike) -> Cameras:
    """The cameras, loaded from `source`, that see at least one Gaussian's centre; warns about the others.

    Raises UserError when none does: then cameras and scene don't belong together.
    """
    chosen = torch.linspace(0, len(gaussians) - 1, min(len(gaussians), _SAMPLE)).long()
    points = gaussians.means.detach().to(cameras.viewmats)[chosen.to(gaussians.device)]
    sees = torch.zeros(len(cameras), dtype=torch.bool)
    for share in (16, 1):  # most cameras see one of a few
        for i in (~sees).nonzero().flatten().tolist():
            sees[i] = _sees(cameras[i], points[::share])
    if sees.all():
        return cameras
    if not sees.any():
        raise UserError(
            f"{source}: none of the {len(cameras)} cameras sees any Gaussian: the cameras and the scene are in "
            "different coordinate systems; give the cameras this scene was trained with (beside transforms.json, the "
            "dataparser_transforms.json of a splat that nerfstudio exported), or none to use an orbit"
        )
    warnings.warn(
        f"{source}: dropped {int((~sees).sum())} of {len(cameras)} cameras that see no Gaussian", stacklevel=2
    )
    return cameras[sees]


def _sees(camera: Cameras, points: torch.Tensor) -> torch.Tensor:
    """Whether any of `points` [P, 3] projects into the one camera, as a boolean scalar."""
    rotation, translation = camera.viewmats[0, :3, :3], camera.viewmats[0, :3, 3]
    x, y, depth = ((points @ rotation.T + translation) @ camera.Ks[0].T).unbind(dim=1)
    inside = (x >= 0) & (x <= camera.width * depth) & (y >= 0) & (y <= camera.height * depth)
    return ((depth > 0) & inside).any()


def _source(path: Path) -> Path:
    """The file to read: `path` itself or the first known one in the folder.

    A folder often holds its cameras twice, as COLMAP found them and converted; the splat lives in COLMAP's world, so
    that is read, unless nerfstudio's dataparser_transforms.json says that it lives in nerfstudio's.
    """
    if kind_of(path, missing=f"no such file or folder; expected {_KNOWN}") != "a folder":
        return check_file(path, most=_LARGEST)
    file = next((file for name in _FILES if (file := path / name).is_file()), None)
    exported = file is not None and file.suffix == ".json" and file.with_name(transforms.EXPORTED).is_file()
    source = file if exported else colmap.find(path) or file
    if source is None:
        raise UserError(f"{path}: holds no cameras; expected {_KNOWN}")
    return check_file(source, most=_LARGEST)


def _read(source: Path) -> list[View]:
    if source.name in ("images.bin", "images.txt", "cameras.bin", "cameras.txt"):
        return colmap.read(source.with_name(f"images{source.suffix}"))
    if source.suffix == ".npy":
        return llff.read(source)
    if source.suffix != ".json":
        raise UserError(f"{source}: is no camera file; expected {_KNOWN}")
    content = json.loads(source.read_bytes())
    if isinstance(content, dict) and isinstance(content.get("frames"), list):
        return transforms.read(source, content)
    if isinstance(content, list):
        return cameras_json.read(content)
    raise UserError(f"{source}: has neither transforms.json's `frames` nor cameras.json's list of cameras")
