"""Cameras of a COLMAP reconstruction: cameras.bin and images.bin, or the .txt pair.

pycolmap's own reader also wants the points and takes the process down on damaged files, so the two small tables are
parsed here; pycolmap turns its many camera models into pinholes.

    cameras  id, model, width, height, params          (.bin: u32 i32 u64 u64 f64[])
    images   id, quaternion wxyz, translation (world to camera), camera id, name, then 2D points, which are skipped
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gs_ssd.scene.datasets.undisturbed import sigterm_kept
from gs_ssd.scene.datasets.view import View

with sigterm_kept():
    import pycolmap

_FOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0", "dense/sparse")
_MODELS = {int(model): name for name, model in pycolmap.CameraModelId.__members__.items() if int(model) >= 0}
_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")
_UNSUPPORTED = ("EQUIRECTANGULAR",)  # has no pinhole equivalent


def find(folder: Path) -> Path | None:
    """The images table of the reconstruction in or under `folder`, if there is one."""
    tables = (folder / sub / f"images.{kind}" for sub in _FOLDERS for kind in ("bin", "txt"))
    return next((table for table in tables if table.is_file()), None)


def read(images: Path) -> list[View]:
    """The registered views, by image name. `images` is an images.bin or images.txt; its cameras table lies beside."""
    table = images.with_name(f"cameras{images.suffix}")
    if not table.is_file():
        raise ValueError(f"there is no {table.name} beside it")
    parse_cameras, parse_images = (
        (_binary_cameras, _binary_images) if images.suffix == ".bin" else (_text_cameras, _text_images)
    )
    pinholes = {
        camera_id: _pinhole(model, width, height, params)
        for camera_id, model, width, height, params in parse_cameras(table.read_bytes())
    }
    views = []
    for name, quaternion, translation, camera_id in parse_images(images.read_bytes()):
        if camera_id not in pinholes:
            raise ValueError(f"image {name!r} has camera {camera_id}, which {table.name} lacks")
        views.append(View(name, _camera_to_world(quaternion, translation), *pinholes[camera_id]))
    return sorted(views, key=lambda view: view.name)


def _pinhole(
    model: str, width: int, height: int, params: list[float]
) -> tuple[float, float, float, float, int, int]:
    """fx, fy, cx, cy, width and height of the pinhole that an undistorted image would have."""
    if model in _UNSUPPORTED:
        raise ValueError(f"{model} cameras can't be undistorted")
    if not np.isfinite(params).all() or not (0 < width < 1 << 15 and 0 < height < 1 << 15):
        raise ValueError(f"a {model} camera has the size {width} x {height} and parameters {params}")
    camera = pycolmap.Camera(model=model, width=width, height=height, params=params)
    if not camera.verify_params():
        raise ValueError(f"a {model} camera has {len(params)} parameters, expected {camera.params_info}")
    if model not in _PINHOLES:
        camera = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
    return (
        camera.focal_length_x,
        camera.focal_length_y,
        camera.principal_point_x,
        camera.principal_point_y,
        camera.width,
        camera.height,
    )


def _camera_to_world(quaternion: np.ndarray, translation: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(quaternion)
    if not 1e-6 < norm < 1e6:
        raise ValueError(f"an image has the quaternion {quaternion}")
    w, x, y, z = quaternion / norm
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ translation
    return pose


def _binary_cameras(data: bytes) -> Iterator[tuple[int, str, int, int, list[float]]]:
    (count,) = struct.unpack_from("<Q", data)
    offset = 8
    for _ in range(count):  # a wrong count ends in struct.error at the end of the data
        camera_id, model, width, height = struct.unpack_from("<IiQQ", data, offset)
        offset += 24
        name = _model(model)
        num_params = len(pycolmap.Camera.create_from_model_name(1, name, 1.0, 1, 1).params)
        params = struct.unpack_from(f"<{num_params}d", data, offset)
        offset += 8 * num_params
        yield camera_id, name, width, height, list(params)
    _check_end(data, offset, f"{count} cameras")


def _binary_images(data: bytes) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    (count,) = struct.unpack_from("<Q", data)
    offset = 8
    for _ in range(count):
        _, *pose, camera_id = struct.unpack_from("<I7dI", data, offset)
        end = data.index(b"\0", offset + 64)
        name = data[offset + 64 : end].decode("utf-8", errors="replace")
        (num_points,) = struct.unpack_from("<Q", data, end + 1)
        offset = end + 9 + 24 * num_points
        if offset > len(data):
            raise ValueError(f"image {name!r} claims {num_points} points, more than the file holds")
        yield name, np.array(pose[:4]), np.array(pose[4:]), camera_id
    _check_end(data, offset, f"{count} images")


def _check_end(data: bytes, offset: int, what: str) -> None:
    if offset != len(data):
        raise ValueError(f"it counts {what}, but {len(data) - offset:,} bytes follow them")


def _text_cameras(data: bytes) -> Iterator[tuple[int, str, int, int, list[float]]]:
    for line in _lines(data):
        if line:
            camera_id, model, width, height, *params = line.split()
            if model not in _MODELS.values():
                raise ValueError(f"unknown camera model {model!r}")
            yield int(camera_id), model, int(width), int(height), [float(value) for value in params]


def _text_images(data: bytes) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    lines = _lines(data)
    line = next(lines, None)
    while line is not None:
        following = next(lines, None)
        if line:
            _, *numbers, camera_id, name = line.split(maxsplit=9)
            pose = np.array(numbers, dtype=np.float64)
            yield name, pose[:4], pose[4:], int(camera_id)
            if following is not None and _is_points(following):
                following = next(lines, None)
        line = following


def _is_points(line: str) -> bool:
    """Whether a line lists an image's 2D points (x y id, ...): empty where it has none, and some tools drop it then."""
    words = line.split()
    try:
        [float(word) for word in words[:12]]
    except ValueError:
        return False
    return len(words) % 3 == 0


def _lines(data: bytes) -> Iterator[str]:
    text = (line.strip() for line in data.decode("utf-8", errors="replace").splitlines())
    return (line for line in text if not line.startswith("#"))


def _model(number: int) -> str:
    if number not in _MODELS:
        raise ValueError(f"unknown camera model {number}")
    return _MODELS[number]
