"""Camera paths for videos: smooth ways through keyframes, and through given cameras.

A keyframe file is JSON, {"keyframes": [...]}, of two or more entries of one kind:

    around the object   {"azimuth_degrees": 0, "elevation_degrees": 10, "distance": 1, "fov_degrees": 45}
                        angles as in `gs_ssd.scene.views`, distance in multiples of that at which the object fits
    in the world        {"position": [x, y, z], "target": [x, y, z], "fov_degrees": 45}

"time" (any unit, rising) may stand in each; without it they are evenly spaced. Missing numbers are the previous
entry's; the first entry's are 0, 10, 1, 45 and, for the target, the object's centre.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline, interp1d
from scipy.spatial.transform import Rotation, RotationSpline

from gs_ssd.checks import number, vector, whole
from gs_ssd.errors import UserError
from gs_ssd.scene import Cameras, SceneFrame
from gs_ssd.scene.cameras import intrinsics, look_at
from gs_ssd.scene.views import fit_distance, place

_AROUND = {"azimuth_degrees": (-36000, 36000), "elevation_degrees": (-89, 89), "distance": (0.01, 100)}
_FOV = (1, 170)


def read_keyframes(path: Path) -> list[Mapping[str, Any]] | None:
    """The entries of a keyframe file; None where the file is JSON of another kind, such as a data set's cameras."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON: {' '.join(str(error).split())[:100]}") from error
    entries = content.get("keyframes") if isinstance(content, dict) else None
    if entries is None:
        return None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f'{path}: keyframes must be a list of entries such as {{"azimuth_degrees": 90}}')
    return entries


def keyframe_cameras(
    frame: SceneFrame, keyframes: Sequence[Mapping[str, Any]], *, frames: int, width: int, height: int
) -> Cameras:
    """`frames` cameras on a smooth way through `keyframes` (see the module docstring), from the first to the last.

    Three or more are joined by a cubic spline, two by a straight line in their coordinates (an arc around the object).
    Raises UserError for entries that can't be used, by their number.
    """
    if len(keyframes) < 2:
        raise UserError(
            f"a camera path needs at least 2 keyframes, here {'is 1' if keyframes else 'are none'}"
        )
    world = "position" in keyframes[0]
    rows = _rows(frame, keyframes, world)
    times = _times(keyframes)
    join = CubicSpline(times, rows, bc_type="natural") if len(rows) > 2 else interp1d(times, rows, axis=0)
    moments = np.linspace(times[0], times[-1], whole("frames", frames, 1)).clip(times[0], times[-1])
    values = torch.from_numpy(np.asarray(join(moments))).float()
    fovs = values[:, -1].clamp(*_FOV).tolist()
    if world:
        positions, targets = values[:, :3], values[:, 3:6]
        close = (positions - targets).norm(dim=1) < 1e-6 * frame.radius
        if close.any():
            raise UserError(f"keyframes: at frame {int(close.nonzero()[0])} the camera stands on its target")
    else:
        fits = torch.tensor([fit_distance(frame, fov) for fov in fovs])
        distances = fits * values[:, 2].clamp_min(0.01)
        positions, targets = place(frame, values[:, 0], values[:, 1].clamp(-89, 89), distances), frame.center
    Ks = torch.stack([intrinsics(fov, width, height) for fov in fovs])
    return Cameras(look_at(positions, targets, frame.up), Ks, width, height)


def through(cameras: Cameras, frames: int) -> Cameras:
    """`frames` cameras on a smooth way through the given ones, in their order, from the first to the last.

    Positions and lenses are joined by a cubic spline, what they look at by `RotationSpline`; so the way passes through
    each of them, at even times.
    """
    count = len(cameras)
    whole("frames", frames, 1)
    if count == 1:
        return cameras[[0] * frames]
    times, moments = np.arange(count), np.linspace(0, count - 1, frames)
    views, lenses = cameras.viewmats.double().numpy(), cameras.Ks.double().numpy().reshape(count, 9)
    turned = views[:, :3, :3].transpose(0, 2, 1)
    rows = np.concatenate([cameras.positions.double().numpy(), lenses], axis=1)
    values = (CubicSpline(times, rows, bc_type="natural") if count > 2 else interp1d(times, rows, axis=0))(
        moments
    )
    rotations = RotationSpline(times, Rotation.from_matrix(turned))(moments).as_matrix()
    placed = np.tile(np.eye(4), (frames, 1, 1))
    placed[:, :3, :3] = rotations.transpose(0, 2, 1)
    placed[:, :3, 3] = -np.einsum("fij,fj->fi", placed[:, :3, :3], values[:, :3])
    Ks = torch.from_numpy(values[:, 3:].reshape(frames, 3, 3)).float()
    return Cameras(torch.from_numpy(placed).float(), Ks, cameras.width, cameras.height)


def _rows(frame: SceneFrame, keyframes: Sequence[Mapping[str, Any]], world: bool) -> np.ndarray:
    """The keyframes as rows: [K, 7] (position, target, fov) or [K, 4] (azimuth, elevation, distance, fov)."""
    names = ["position", "target"] if world else list(_AROUND)
    last: dict[str, Any] = {"azimuth_degrees": 0.0, "elevation_degrees": 10.0, "distance": 1.0}
    last |= {"target": frame.center.tolist(), "fov_degrees": 45.0}
    rows = []
    for index, entry in enumerate(keyframes):
        unknown = set(entry) - {*names, "fov_degrees", "time"}
        if unknown:
            raise UserError(
                f"keyframe {index}: {sorted(unknown)[0]!r} doesn't belong there; there are: "
                f"{', '.join([*names, 'fov_degrees', 'time'])}"
            )
        last |= entry
        if world:
            row = [x for name in names for x in vector(f"keyframe {index}: {name}", last.get(name), 3)]
        else:
            row = [
                number(f"keyframe {index}: {name}", last[name], least=low, most=high)
                for name, (low, high) in _AROUND.items()
            ]
        row.append(number(f"keyframe {index}: fov_degrees", last["fov_degrees"], least=_FOV[0], most=_FOV[1]))
        rows.append(row)
    return np.array(rows)


def _times(keyframes: Sequence[Mapping[str, Any]]) -> np.ndarray:
    given = [index for index, entry in enumerate(keyframes) if "time" in entry]
    if not given:
        return np.arange(len(keyframes), dtype=float)
    if len(given) < len(keyframes):
        raise UserError("keyframes: give all of them a time, or none")
    times = [number(f"keyframe {index}: time", entry["time"]) for index, entry in enumerate(keyframes)]
    for index in range(1, len(times)):
        if not times[index] > times[index - 1] or not math.isfinite(times[index] - times[index - 1]):
            raise UserError(
                f"keyframe {index}: time={times[index]:g} must be later than {times[index - 1]:g}"
            )
    return np.array(times)
