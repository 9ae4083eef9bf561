"""transforms.json of nerfstudio, instant-ngp and the Blender scenes: OpenGL camera-to-world matrices.

Which world? nerfstudio's `applied_transform` and `applied_scale`, which it put on COLMAP's poses, are undone, so the
cameras live in the world of a splat trained on the COLMAP model. Splats that nerfstudio exported live in the world
after its centring and scaling: with its `dataparser_transforms.json` in the same folder the cameras are brought there.
Lens distortion is ignored: without images only the pinhole matters.
"""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from gs_ssd.scene.datasets.view import OPENGL_TO_OPENCV, View

EXPORTED = "dataparser_transforms.json"
_BLENDER_SIZE = 800  # pixels; the published Blender scenes state no size
_IMAGE_SUFFIXES = ("", ".png", ".jpg", ".jpeg")


def read(path: Path, content: dict) -> list[View]:
    """The frames of a parsed transforms.json at `path`, in its order."""
    transform, scale = _world(path, content)
    views = []
    for number, frame in enumerate(content["frames"]):
        pose = _matrix(frame["transform_matrix"]) @ OPENGL_TO_OPENCV
        pose = transform @ pose
        pose[:3, 3] *= scale
        name = str(frame.get("file_path", number))
        views.append(View(name, pose, *_intrinsics({**content, **frame}, path.parent / name)))
    return views


def _world(path: Path, content: dict) -> tuple[np.ndarray, float]:
    """What moves the file's poses to the splat's world: a matrix [4, 4], then a scale of the positions."""
    undo = np.linalg.inv(_matrix(content.get("applied_transform", np.eye(4))))
    applied_scale = float(content.get("applied_scale", 1.0))
    beside = path.with_name(EXPORTED)
    if not beside.is_file():
        return undo, 1 / applied_scale
    parsed = json.loads(beside.read_bytes())  # its transform and scale include the applied ones
    return _matrix(parsed["transform"]) @ undo, float(parsed["scale"]) / applied_scale


def _matrix(rows: object) -> np.ndarray:
    """[4, 4] from nested lists of 3 x 4 or 4 x 4 numbers."""
    matrix = np.array(rows, dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"a transform has the shape {matrix.shape}, expected 4 x 4")
    return np.vstack([matrix[:3], [0, 0, 0, 1]])


def _intrinsics(values: dict, image: Path) -> tuple[float, float, float, float, int, int]:
    """fx, fy, cx, cy, width and height; a frame's values take precedence over the file's."""
    width, height = (int(values["w"]), int(values["h"])) if "w" in values and "h" in values else _size(image)
    if "fl_x" in values:
        fx = float(values["fl_x"])
    elif "camera_angle_x" in values:
        fx = width / (2 * math.tan(float(values["camera_angle_x"]) / 2))
    else:
        raise ValueError("it has neither fl_x nor camera_angle_x")
    if "fl_y" in values:
        fy = float(values["fl_y"])
    elif "camera_angle_y" in values:
        fy = height / (2 * math.tan(float(values["camera_angle_y"]) / 2))
    else:
        fy = fx
    return fx, fy, float(values.get("cx", width / 2)), float(values.get("cy", height / 2)), width, height


def _size(image: Path) -> tuple[int, int]:
    """The size of the frame's image if it is there, else the Blender scenes' size."""
    for suffix in _IMAGE_SUFFIXES:
        candidate = image.with_name(image.name + suffix)
        if candidate.is_file():
            with Image.open(candidate) as opened:
                return opened.size
    warnings.warn(f"no image size in the file: {_BLENDER_SIZE} x {_BLENDER_SIZE} assumed", stacklevel=2)
    return _BLENDER_SIZE, _BLENDER_SIZE
