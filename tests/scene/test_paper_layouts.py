"""Whole captures in the layouts of the collections that score-distillation papers edit, each with its splat.

The test of all: a Gaussian is seen by each camera at the pixel where the capture's own geometry puts it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import Cameras, load_gaussians
from gs_ssd.scene.datasets import load_cameras, visible_cameras
from tests.scene.layouts import inria_columns, ply_bytes
from tests.scene.test_datasets import (
    FOCAL,
    HEIGHT,
    KNOWN,
    WIDTH,
    binary_colmap,
    llff_table,
    opengl_poses,
)
from tests.synthetic import random_gaussians

SPLAT = random_gaussians(50)
# nerfstudio's swap of axes, and its later centring: a rotation, a shift, a scale.
APPLIED = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
CENTRED = np.array([[0.0, -1, 0, 0.4], [1, 0, 0, -0.2], [0, 0, 1, 0.1], [0, 0, 0, 1]])
SCALE = 0.37


def pixels(cameras: Cameras, means: torch.Tensor) -> torch.Tensor:
    """Where each camera sees the points, [C, N, 2]."""
    points = (
        torch.einsum("cij,nj->cni", cameras.viewmats[:, :3, :3], means) + cameras.viewmats[:, None, :3, 3]
    )
    projected = torch.einsum("cij,cnj->cni", cameras.Ks, points)
    return projected[..., :2] / projected[..., 2:]


WANTED = pixels(KNOWN, SPLAT.means)


def assert_fits(folder: Path, splat: Path, *, tolerance: float = 0.05) -> None:
    """Within `tolerance` pixels; COLMAP's undistortion crops about one."""
    gaussians = load_gaussians(splat)
    cameras = visible_cameras(load_cameras(folder), gaussians, source="poses")
    assert abs(cameras.width - WIDTH) <= tolerance + 0.5 and abs(cameras.height - HEIGHT) <= tolerance + 0.5
    torch.testing.assert_close(pixels(cameras, gaussians.means), WANTED, atol=tolerance, rtol=0)


def write_splat(path: Path, means: np.ndarray | None = None) -> Path:
    gaussians = SPLAT.map(lambda tensor: tensor.clone())
    if means is not None:
        gaussians.means[:] = torch.from_numpy(means)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ply_bytes(inria_columns(gaussians)))
    return path


def images(folder: Path, *names: str) -> None:
    """The picture folders with their smaller copies; empty, for only cameras are read."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "frame_00001.jpg").touch()


def in2n(folder: Path, **extra: object) -> Path:
    """An Instruct-NeRF2NeRF capture: what `ns-process-data` writes, transforms.json beside COLMAP's own model."""
    images(folder, "images", "images_2", "images_4", "images_8")
    binary_colmap(folder / "colmap" / "sparse" / "0", "OPENCV", (FOCAL, FOCAL, 320, 240, 0, 0, 0, 0))
    scale = float(extra.get("applied_scale", 1.0))
    frames = []
    for number, pose in enumerate(opengl_poses(), start=1):
        matrix = APPLIED @ pose
        matrix[:3, 3] *= scale
        name = f"images/frame_{number:05}.jpg"
        frames.append({"file_path": name, "transform_matrix": matrix.tolist(), "colmap_im_id": number})
    content = {
        "w": WIDTH, "h": HEIGHT, "fl_x": FOCAL, "fl_y": FOCAL, "cx": 320.0, "cy": 240.0, "k1": 0.0, "k2": 0.0,
        "p1": 0.0, "p2": 0.0, "camera_model": "OPENCV", "frames": frames,
        "applied_transform": APPLIED[:3].tolist(), "ply_file_path": "sparse_pc.ply",
    } | extra  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(content))
    (folder / "sparse_pc.ply").write_text("ply\n")
    return folder


def exported(folder: Path, *, scale: float = SCALE) -> Path:
    """dataparser_transforms.json, and the splat as nerfstudio exports it, in its own world."""
    transform = CENTRED @ APPLIED
    parsed = {"transform": transform[:3].tolist(), "scale": scale}
    (folder / "dataparser_transforms.json").write_text(json.dumps(parsed))
    means = scale * (SPLAT.means.double().numpy() @ transform[:3, :3].T + transform[:3, 3])
    return write_splat(folder / "splat.ply", means)


def test_in2n_with_a_splat_of_the_colmap_model(tmp_path):
    folder = in2n(tmp_path / "face")
    assert_fits(folder, write_splat(folder / "point_cloud.ply"), tolerance=1)
    assert_fits(folder / "transforms.json", folder / "point_cloud.ply")


def test_in2n_with_a_splat_that_nerfstudio_exported(tmp_path):
    """COLMAP's model lies in the folder too, but its world is not the splat's."""
    folder = in2n(tmp_path / "face")
    assert_fits(folder, exported(folder))


def test_in2n_without_colmap(tmp_path):
    folder = in2n(tmp_path / "face")
    shutil.rmtree(folder / "colmap")
    assert_fits(folder, write_splat(folder / "point_cloud.ply"))


def test_an_applied_scale_is_undone(tmp_path):
    folder = in2n(tmp_path / "scan", applied_scale=2.5)
    assert_fits(folder / "transforms.json", write_splat(folder / "point_cloud.ply"))


def test_a_splat_of_another_world_is_noticed(tmp_path):
    folder = in2n(tmp_path / "face")
    splat = write_splat(folder / "splat.ply", SPLAT.means.numpy() + np.array([0, 500, 0]))
    with pytest.raises(UserError, match=r"none of the 5 cameras .* dataparser_transforms.json"):
        visible_cameras(load_cameras(folder), load_gaussians(splat), source="poses")


def test_llff(tmp_path):
    """nerf_llff_data/fern: poses_bounds.npy, COLMAP's model, pictures at several sizes."""
    folder = tmp_path / "fern"
    images(folder, "images", "images_4", "images_8")
    np.save(folder / "poses_bounds.npy", llff_table())
    splat = write_splat(folder / "point_cloud" / "iteration_30000" / "point_cloud.ply")
    assert_fits(folder, splat)
    binary_colmap(folder / "sparse" / "0", "SIMPLE_RADIAL", (FOCAL, 320, 240, 0.0))
    assert_fits(folder, splat, tolerance=1)


def test_mipnerf360(tmp_path):
    """garden: COLMAP's model at full size, LLFF's poses, pictures at several sizes."""
    folder = tmp_path / "garden"
    images(folder, "images", "images_2", "images_4", "images_8")
    binary_colmap(folder / "sparse" / "0")
    np.save(folder / "poses_bounds.npy", llff_table())
    assert_fits(folder, write_splat(folder / "point_cloud.ply"))


def test_training_on_smaller_pictures_changes_only_the_size(tmp_path):
    """A splat trained on images_4 lives in the same world; its cameras are the same at a quarter of the pixels."""
    folder = tmp_path / "garden"
    binary_colmap(folder / "sparse" / "0")
    small = load_cameras(folder).resized(WIDTH // 4, HEIGHT // 4)
    torch.testing.assert_close(pixels(small, SPLAT.means), WANTED / 4, atol=0.02, rtol=0)


def no_frames(folder: Path) -> None:
    content = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps(content | {"frames": []}))


def no_matrix(folder: Path) -> None:
    content = json.loads((folder / "transforms.json").read_text())
    del content["frames"][0]["transform_matrix"]
    (folder / "transforms.json").write_text(json.dumps(content))


def cut(name: str):
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def without(name: str):
    return lambda folder: (folder / name).unlink()


MISSING = {
    "in2n, no frames": ("in2n", no_frames, "lists no cameras"),
    "in2n, a frame without a pose": ("in2n", no_matrix, "transform_matrix"),
    "in2n, cut": ("in2n", cut("transforms.json"), "no readable cameras"),
    "in2n, no transforms.json": ("in2n", without("transforms.json"), "holds no cameras"),
    "llff, cut": ("llff", cut("poses_bounds.npy"), "no readable cameras"),
    "llff, no poses": ("llff", without("poses_bounds.npy"), "holds no cameras; expected a COLMAP folder"),
    "360, no cameras.bin": ("360", without("sparse/0/cameras.bin"), "no cameras.bin beside it"),
    "360, no images.bin": ("360", without("sparse/0/images.bin"), "holds no cameras"),
    "360, cut": ("360", cut("sparse/0/images.bin"), "no readable cameras"),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_parts(name, tmp_path):
    layout, damage, message = MISSING[name]
    folder = tmp_path / "scene"
    folder.mkdir()
    if layout == "in2n":
        in2n(folder)
        shutil.rmtree(folder / "colmap")
    elif layout == "llff":
        np.save(folder / "poses_bounds.npy", llff_table())
    else:
        binary_colmap(folder / "sparse" / "0")
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_cameras(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
