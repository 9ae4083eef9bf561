"""poses_bounds.npy of LLFF: [N, 17], each row a 3 x 5 matrix [rotation | position | height width focal] and two depths.

The rotation's columns point down, right and backward.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gs_ssd.scene.datasets.view import View


def read(path: Path) -> list[View]:
    """The poses in the file's order."""
    table = np.load(
        path, mmap_mode="r", allow_pickle=False
    )  # mapped: a false shape fails instead of allocating
    if table.ndim != 2 or table.shape[1] != 17:
        raise ValueError(f"the array has the shape {table.shape}, expected (N, 17)")
    matrices = np.array(table[:, :15], dtype=np.float64).reshape(-1, 3, 5)
    return [_view(matrix, number) for number, matrix in enumerate(matrices)]


def _view(matrix: np.ndarray, number: int) -> View:
    down, right, backward, position = matrix[:, :4].T
    height, width, focal = matrix[:, 4]
    pose = np.eye(4)
    pose[:3] = np.stack([right, down, -backward, position], axis=1)
    return View(str(number), pose, focal, focal, width / 2, height / 2, int(width), int(height))
