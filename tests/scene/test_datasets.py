"""Known cameras written in each public layout come back as the same pinholes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import find_frame, orbit
from gs_ssd.scene.cameras import Cameras, intrinsics, look_at
from gs_ssd.scene.datasets import load_cameras, save_cameras, visible_cameras
from tests.scene.layouts import colmap_text, transforms
from tests.synthetic import random_gaussians

WIDTH, HEIGHT = 640, 480


def known_cameras(count: int = 5) -> Cameras:
    """Cameras around the origin, y down."""
    angles = torch.linspace(0, 2, count)
    positions = torch.stack([4 * angles.sin(), -1 + 0.2 * angles, -4 * angles.cos()], dim=1)
    viewmats = look_at(positions, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    return Cameras(viewmats, intrinsics(50, WIDTH, HEIGHT).repeat(count, 1, 1), WIDTH, HEIGHT)


KNOWN = known_cameras()
FOCAL = KNOWN.Ks[0, 0, 0].item()


def assert_same(got: Cameras, want: Cameras, tolerance: float = 1e-4) -> None:
    assert (got.width, got.height) == (want.width, want.height)
    torch.testing.assert_close(got.viewmats, want.viewmats, atol=tolerance, rtol=0)
    torch.testing.assert_close(got.Ks, want.Ks, atol=1e-2, rtol=0)


def opengl_poses() -> list[np.ndarray]:
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return [np.linalg.inv(viewmat) @ flip for viewmat in KNOWN.viewmats.double().numpy()]


def colmap_pose(viewmat: torch.Tensor) -> list[float]:
    """Quaternion wxyz and translation, by pycolmap."""
    matrix = viewmat.double().numpy()
    x, y, z, w = pycolmap.Rotation3d(matrix[:3, :3]).quat
    return [w, x, y, z, *matrix[:3, 3]]


def binary_colmap(folder: Path, model: str = "PINHOLE", params: tuple[float, ...] = ()) -> None:
    """A reconstruction of the known cameras, written by pycolmap."""
    reconstruction = pycolmap.Reconstruction()
    params = params or (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
    camera = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params, camera_id=1)
    reconstruction.add_camera_with_trivial_rig(camera)
    for i, viewmat in enumerate(KNOWN.viewmats.double().numpy(), start=1):
        keypoints = np.random.default_rng(i).uniform(0, 400, (3, 2))
        image = pycolmap.Image(name=f"{i:03}.png", keypoints=keypoints, camera_id=1, image_id=i)
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(viewmat[:3]))
    folder.mkdir(parents=True, exist_ok=True)
    reconstruction.write(str(folder))


@pytest.mark.parametrize("sub", ["", "sparse/0", "sparse"])
def test_colmap_binary(tmp_path, sub):
    binary_colmap(tmp_path / sub)
    assert_same(load_cameras(tmp_path), KNOWN)
    assert_same(load_cameras(tmp_path / sub / "images.bin"), KNOWN)


@pytest.mark.parametrize(
    "camera",
    [f"1 PINHOLE 640 480 {FOCAL} {FOCAL} 320 240", f"1 SIMPLE_PINHOLE 640 480 {FOCAL} 320 240"],
)
def test_colmap_text(tmp_path, camera):
    images = [
        f"{i} {' '.join(map(str, colmap_pose(viewmat)))} 1 a name {i}.png"
        for i, viewmat in enumerate(KNOWN.viewmats)
    ]
    colmap_text(tmp_path / "sparse" / "0", [camera], images[::-1])  # order is by name
    assert_same(load_cameras(tmp_path), KNOWN)


def test_colmap_distorted_cameras_become_pinholes(tmp_path):
    for model, params in {
        "SIMPLE_RADIAL": (FOCAL, 320, 240, 0.05),
        "OPENCV": (FOCAL, FOCAL, 320, 240, 0.05, -0.01, 1e-3, 1e-3),
        "OPENCV_FISHEYE": (FOCAL, FOCAL, 320, 240, 0.01, 0.0, 0.0, 0.0),
    }.items():
        binary_colmap(tmp_path / model, model, params)
        cameras = load_cameras(tmp_path / model)
        torch.testing.assert_close(cameras.viewmats, KNOWN.viewmats, atol=1e-4, rtol=0)
        assert cameras.Ks[0, 0, 0].item() == pytest.approx(FOCAL, rel=0.05)
        assert cameras.Ks[0, 0, 2].item() == pytest.approx(cameras.width / 2, abs=20)
    with pytest.raises(UserError, match="EQUIRECTANGULAR cameras can't be undistorted"):
        colmap_text(tmp_path / "sphere", ["1 EQUIRECTANGULAR 640 480 640 480"], ["1 1 0 0 0 0 0 0 1 a.png"])
        load_cameras(tmp_path / "sphere")


def test_cameras_of_another_size_are_fitted_to_the_common_one(tmp_path):
    cameras = ["1 PINHOLE 640 480 500 500 320 240", "2 PINHOLE 320 240 250 250 160 120"]
    images = [f"{i} 1 0 0 0 0 0 {i} {2 if i == 3 else 1} {i}.png" for i in range(1, 4)]
    colmap_text(tmp_path, cameras, images)
    got = load_cameras(tmp_path)
    assert (got.width, got.height) == (640, 480)
    torch.testing.assert_close(got.Ks[2], got.Ks[0])


def test_nerfstudio_transforms(tmp_path):
    values = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 320.0, "cy": 240.0, "w": WIDTH, "h": HEIGHT}
    (tmp_path / "transforms.json").write_bytes(transforms(opengl_poses(), **values))
    assert_same(load_cameras(tmp_path), KNOWN)
    assert_same(load_cameras(tmp_path / "transforms.json"), KNOWN)


def test_per_frame_values_take_precedence(tmp_path):
    data = json.loads(transforms(opengl_poses(), fl_x=1.0, w=WIDTH, h=HEIGHT))
    for frame in data["frames"]:
        frame["fl_x"] = FOCAL
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    assert_same(load_cameras(tmp_path), KNOWN)


def test_blender_transforms_without_a_size(tmp_path):
    (tmp_path / "transforms_train.json").write_bytes(
        transforms(opengl_poses(), camera_angle_x=0.6911112070083618)
    )
    with pytest.warns(UserWarning, match="800 x 800 assumed"):
        got = load_cameras(tmp_path)
    assert got.Ks[0, 0, 0].item() == pytest.approx(1111.111, abs=1e-2)  # the value known for these scenes
    assert (got.width, got.height) == (800, 800)


def test_applied_transform_is_undone(tmp_path):
    applied = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    poses = [applied @ pose for pose in opengl_poses()]
    values = {"fl_x": FOCAL, "w": WIDTH, "h": HEIGHT, "applied_transform": applied[:3].tolist()}
    (tmp_path / "transforms.json").write_bytes(transforms(poses, **values))
    assert_same(load_cameras(tmp_path), KNOWN)


def test_dataparser_transforms_lead_to_the_exported_world(tmp_path):
    shift = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    (tmp_path / "transforms.json").write_bytes(transforms(opengl_poses(), fl_x=FOCAL, w=WIDTH, h=HEIGHT))
    parser = {"transform": shift[:3].tolist(), "scale": 0.5}
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps(parser))
    want = 0.5 * (KNOWN.positions.double().numpy() @ shift[:3, :3].T + shift[:3, 3])
    torch.testing.assert_close(
        load_cameras(tmp_path).positions, torch.tensor(want).float(), atol=1e-4, rtol=0
    )


def inria_entry(i: int) -> dict:
    pose = np.linalg.inv(KNOWN.viewmats[i].double().numpy())
    return {
        "id": i,
        "img_name": f"{i:05}",
        "width": WIDTH,
        "height": HEIGHT,
        "position": pose[:3, 3].tolist(),
        "rotation": pose[:3, :3].tolist(),
        "fy": FOCAL,
        "fx": FOCAL,
    }


def test_inria_cameras_json(tmp_path):
    (tmp_path / "cameras.json").write_text(json.dumps([inria_entry(i) for i in range(len(KNOWN))]))
    assert_same(load_cameras(tmp_path), KNOWN)


def llff_table() -> np.ndarray:
    rows = []
    for pose in np.linalg.inv(KNOWN.viewmats.double().numpy()):
        right, down, forward, position = pose[:3].T
        matrix = np.stack([down, right, -forward, position, [HEIGHT, WIDTH, FOCAL]], axis=1)
        rows.append([*matrix.ravel(), 1.0, 10.0])
    return np.array(rows)


def test_llff_poses_bounds(tmp_path):
    np.save(tmp_path / "poses_bounds.npy", llff_table())
    assert_same(load_cameras(tmp_path), KNOWN)


def test_cameras_give_the_up_axis():
    frame = find_frame(random_gaussians(), cameras=KNOWN)
    assert frame.up @ torch.tensor([0.0, -1.0, 0.0]) > 0.9


def test_blind_cameras_are_dropped():
    gaussians = random_gaussians()
    away = KNOWN[[0]]
    away.viewmats[0, 2] *= -1  # turned around
    away.viewmats[0, 0] *= -1
    both = Cameras(torch.cat([KNOWN.viewmats, away.viewmats]), torch.cat([KNOWN.Ks, away.Ks]), WIDTH, HEIGHT)
    with pytest.warns(UserWarning, match="dropped 1 of 6 cameras"):
        assert_same(visible_cameras(both, gaussians, source="poses"), KNOWN)
    with pytest.raises(UserError, match="none of the 1 cameras sees any Gaussian"):
        visible_cameras(away, gaussians, source="poses")
    every = orbit(find_frame(gaussians), 8, width=64, height=64)
    assert visible_cameras(every, gaussians, source="poses") is every


FRAME = {"transform_matrix": np.eye(4).tolist()}
BAD = {
    "missing": (None, "no such file or folder"),
    "notes.txt": (b"none", "is no camera file"),
    "broken.json": (b"{", "no readable cameras"),
    "other.json": (b'{"a": 1}', "neither transforms.json's"),
    "empty.json": (b"[]", "lists no cameras"),
    "no_focal.json": (
        json.dumps({"frames": [FRAME], "w": 4, "h": 4}).encode(),
        "neither fl_x nor camera_angle_x",
    ),
    "zero.json": (json.dumps({"frames": [FRAME], "w": 4, "h": 4, "fl_x": 0}).encode(), "focal length 0"),
    "size.json": (json.dumps({"frames": [FRAME], "w": 0, "h": 4, "fl_x": 1}).encode(), "image size 0 x 4"),
    "nan.json": (transforms([np.full((4, 4), np.nan)], fl_x=1, w=4, h=4), "NaN, infinite"),
    "flat.json": (transforms([np.diag([1.0, 1, 0, 1])], fl_x=1, w=4, h=4), "no rotation"),
    "shape.json": (transforms([np.eye(3)], fl_x=1, w=4, h=4), "expected 4 x 4"),
    "keys.json": (b'[{"id": 0}]', "no readable cameras"),
    "deep.json": (b"[" * 100_000, "no readable cameras"),
    "shape.npy": (b"\x93NUMPY", "no readable cameras"),
    "images.bin": (b"\1\0\0\0\0\0\0\0", "no cameras.bin beside it"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_camera_files(tmp_path, name):
    content, message = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_cameras(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_cameras(tmp_path):
    with pytest.raises(UserError, match="holds no cameras; expected a COLMAP folder"):
        load_cameras(tmp_path)


def test_image_with_an_unknown_camera(tmp_path):
    colmap_text(tmp_path, ["1 PINHOLE 640 480 500 500 320 240"], ["1 1 0 0 0 0 0 0 7 a.png"])
    with pytest.raises(UserError, match="has camera 7, which"):
        load_cameras(tmp_path)


def test_cameras_json_round_trip(tmp_path):
    save_cameras(KNOWN, tmp_path / "cameras.json")
    assert_same(load_cameras(tmp_path / "cameras.json"), KNOWN)
    entry = json.loads((tmp_path / "cameras.json").read_text())[2]
    # The original code's own keys, in its order; its rotation's columns are the camera's axes in the world.
    assert list(entry) == ["id", "img_name", "width", "height", "position", "rotation", "fy", "fx"]
    assert np.allclose(entry["position"], KNOWN.positions[2].numpy(), atol=1e-5)
    assert np.allclose(np.array(entry["rotation"]).T, KNOWN.viewmats[2, :3, :3].numpy(), atol=1e-5)


def test_cameras_json_keeps_a_principal_point_off_centre(tmp_path):
    shifted = Cameras(KNOWN.viewmats, KNOWN.Ks.clone(), WIDTH, HEIGHT)
    shifted.Ks[:, 0, 2] += 17
    save_cameras(shifted, tmp_path / "cameras.json")
    assert_same(load_cameras(tmp_path / "cameras.json"), shifted)
