"""cameras.json as the original 3D Gaussian Splatting code writes it beside point_cloud/: OpenCV camera-to-world.

[{"img_name", "width", "height", "position": [3], "rotation": [3][3], "fx", "fy"}, ...]
"""

from __future__ import annotations

import numpy as np

from gs_ssd.scene.datasets.view import View


def read(content: list) -> list[View]:
    """The entries of a parsed cameras.json; the principal point is the image centre, as the format has none."""
    return [_view(entry, number) for number, entry in enumerate(content)]


def _view(entry: dict, number: int) -> View:
    width, height = int(entry["width"]), int(entry["height"])
    pose = np.eye(4)
    pose[:3, :3] = np.array(entry["rotation"], dtype=np.float64).reshape(3, 3)
    pose[:3, 3] = np.array(entry["position"], dtype=np.float64).reshape(3)
    name = str(entry.get("img_name", number))
    return View(name, pose, float(entry["fx"]), float(entry["fy"]), width / 2, height / 2, width, height)
