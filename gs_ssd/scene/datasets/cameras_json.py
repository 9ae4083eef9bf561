"""cameras.json as the original 3D Gaussian Splatting code writes it beside point_cloud/: OpenCV camera-to-world.

[{"id", "img_name", "width", "height", "position": [3], "rotation": [3][3], "fx", "fy"}, ...]

The original has no principal point; "cx" and "cy" are written where it is not the image's centre.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from gs_ssd.files import atomic_path
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.datasets.view import View


def read(content: list) -> list[View]:
    """The entries of a parsed cameras.json."""
    return [_view(entry, number) for number, entry in enumerate(content)]


def write(cameras: Cameras, path: str | os.PathLike) -> None:
    """Write a cameras.json that viewers of the original code's output open beside the scene."""
    entries = []
    poses = np.linalg.inv(cameras.viewmats.double().cpu().numpy())
    for number, (pose, K) in enumerate(zip(poses, cameras.Ks.double().cpu().numpy())):
        entry = {
            "id": number,
            "img_name": f"{number:05d}",
            "width": cameras.width,
            "height": cameras.height,
            "position": pose[:3, 3].tolist(),
            "rotation": pose[:3, :3].tolist(),
            "fy": K[1, 1],
            "fx": K[0, 0],
        }
        if abs(K[0, 2] - cameras.width / 2) > 1e-3 or abs(K[1, 2] - cameras.height / 2) > 1e-3:
            entry |= {"cx": K[0, 2], "cy": K[1, 2]}
        entries.append(entry)
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(entries), encoding="utf-8")


def _view(entry: dict, number: int) -> View:
    width, height = int(entry["width"]), int(entry["height"])
    pose = np.eye(4)
    pose[:3, :3] = np.array(entry["rotation"], dtype=np.float64).reshape(3, 3)
    pose[:3, 3] = np.array(entry["position"], dtype=np.float64).reshape(3)
    name = str(entry.get("img_name", number))
    cx, cy = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
    return View(name, pose, float(entry["fx"]), float(entry["fy"]), cx, cy, width, height)
