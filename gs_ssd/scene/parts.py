"""What each Gaussian of a sample scene shows: a uint8 label per Gaussian, in the file's order, beside the .ply.

Known when a scene is made. It says what may be edited (`gs_ssd.scene.masks.Parts`) and what the metrics compare.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gs_ssd.errors import UserError

PARTS = ("studio", "skin", "hair", "moustache", "clothes")  # "moustache": the upper lip, where one would grow


def load_parts(path: str | os.PathLike, *, count: int) -> Tensor:
    """Indices into PARTS, [count]; raises UserError when the file doesn't belong to the scene."""
    path = Path(path)
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"can't read the parts {path}: {reason}; scripts/workshop/make_face_scene.py writes them"
        ) from error
    if labels.shape != (count,) or labels.dtype != np.uint8 or labels.max(initial=0) >= len(PARTS):
        raise UserError(
            f"{path} holds {labels.dtype} {labels.shape}, expected a uint8 label below {len(PARTS)} for each of the "
            f"scene's {count} Gaussians; scripts/workshop/make_face_scene.py writes scene and parts together"
        )
    return torch.from_numpy(labels)
