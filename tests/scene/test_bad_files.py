"""Every way a file can be wrong ends in one line that names the file and says what would work."""

from __future__ import annotations

import gzip
import os
import pickle
import warnings

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from tests.scene.layouts import inria_columns, ply_bytes, splat_bytes
from tests.synthetic import random_gaussians

GOOD = random_gaussians(40, sh_degree=1)
COLUMNS = inria_columns(GOOD)
PLY = ply_bytes(COLUMNS)
SPLAT = splat_bytes(random_gaussians(40, sh_degree=0))


def without(*prefixes: str) -> bytes:
    return ply_bytes({name: value for name, value in COLUMNS.items() if not name.startswith(prefixes)})


def mesh() -> bytes:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
    header += "property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    return header.encode() + np.zeros(9, "<f4").tobytes() + b"\3" + np.arange(3, dtype="<i4").tobytes()


BAD = {
    "empty.ply": (b"", "is empty"),
    "empty.splat": (b"", "is empty"),
    "half.ply": (PLY[: len(PLY) // 2], "truncated"),
    "one_byte_short.ply": (PLY[:-1], "truncated"),
    "header_only.ply": (PLY[:100], "truncated"),
    "huge.ply": (PLY.replace(b"vertex 40", b"vertex 1000000000000"), "truncated"),
    "text.ply": (b"hello, this is no ply\n", "is a text file"),
    "text.splat": (b"hello, this is no splat at all.\n" * 8, "is a text file"),
    "pointer.ply": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "page.splat": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "random.ply": (bytes(range(256)), "doesn't start with 'ply'"),
    "random.splat": (np.random.default_rng(0).bytes(3200), "not those of a .splat"),
    "odd.splat": (SPLAT + b"\0", "no multiple of 32"),
    "mesh.ply": (mesh(), "is a mesh"),
    "cloud.ply": (without("f_", "opacity", "scale", "rot"), "is a point cloud"),
    "no_opacity.ply": (without("opacity"), "lacks the properties opacity"),
    "no_rotation.ply": (without("rot_3"), "lacks the properties rot_3"),
    "odd_sh.ply": (without("f_rest_8"), "8 f_rest properties fit no SH degree"),
    "gap_sh.ply": (PLY.replace(b" f_rest_8\n", b" f_rest_9\n"), "fit no SH degree"),
    "twice.ply": (PLY.replace(b"property float y", b"property float x"), "damaged .ply header"),
    "no_rows.ply": (ply_bytes({name: value[:0] for name, value in COLUMNS.items()}), "holds no Gaussians"),
    "no_vertex.ply": (PLY.replace(b"element vertex", b"element points"), "no vertex element"),
    "negative.ply": (PLY.replace(b"vertex 40", b"vertex -40"), "damaged .ply header"),
    "version.ply": (PLY.replace(b"1.0", b"7.0", 1), "damaged .ply header"),
    "all_nan.ply": (ply_bytes(COLUMNS | {"x": np.full(40, np.nan)}), "none of the 40 Gaussians is usable"),
    "archive.zip": (b"PK\3\4" + bytes(60), "unknown scene format '.zip'; known are .compressed.ply, .ply"),
    "scene.ksplat": (b"\x1f\x8b" + bytes(60), "convert other formats"),
    "scene.spz": (b"\x1f\x8b" + bytes(60), "not a .spz"),
    "empty_stream.spz": (gzip.compress(b""), "not a .spz"),
    "other.spz": (gzip.compress(bytes(100)), "not a .spz of version 1 to 4"),
    "version4.spz": (b"NGSP" + bytes(100), "not a .spz of version 1 to 4"),
    "lies.spz": (
        gzip.compress(b"NGSP" + bytes([3, 0, 0, 0, 255, 255, 255, 255]) + bytes(4)),
        "promises 4,294,967,295 Gaussians in",
    ),
    "short.spz": (
        gzip.compress(b"NGSP" + bytes([3, 0, 0, 0, 5, 0, 0, 0]) + bytes(99)),
        "doesn't hold the 5 Gaussians",
    ),
    "random.pt": (bytes(range(256)), "checkpoint"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path, name):
    data, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_gaussians(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_permission(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_gaussians(tmp_path / "missing.ply")
    with pytest.raises(UserError, match="is a folder"):
        load_gaussians(tmp_path)
    if os.geteuid() == 0:
        return  # root may read everything
    locked = tmp_path / "locked.ply"
    locked.write_bytes(PLY)
    locked.chmod(0)
    with pytest.raises(UserError, match="can't be read"):
        load_gaussians(locked)


def load_columns(folder, **changed: np.ndarray):
    path = folder / "scene.ply"
    path.write_bytes(ply_bytes(COLUMNS | changed))
    return load_gaussians(path)


def changed(name: str, values: dict[int, float]) -> dict[str, np.ndarray]:
    column = COLUMNS[name].copy()
    column[list(values)] = list(values.values())
    return {name: column}


@pytest.mark.parametrize("name", ["x", "f_dc_1", "f_rest_4", "opacity", "scale_2", "rot_0"])
def test_nan_rows_are_dropped_and_counted(tmp_path, name):
    with pytest.warns(UserWarning, match="dropped 2 of 40 Gaussians: 2 with NaN or infinite values"):
        got = load_columns(tmp_path, **changed(name, {3: np.nan, 7: np.nan}))
    keep = [i for i in range(40) if i not in (3, 7)]
    assert torch.equal(got.means, GOOD.means[keep])


@pytest.mark.parametrize(("name", "value"), [("scale_0", 90.0), ("x", 1e30), ("f_dc_0", 1e20)])
def test_absurd_rows_are_dropped_and_counted(tmp_path, name, value):
    with pytest.warns(UserWarning, match="dropped 1 of 40 Gaussians: 1 with absurd sizes"):
        assert len(load_columns(tmp_path, **changed(name, {5: value}))) == 39


def test_infinite_opacities_mean_opaque_and_transparent(tmp_path):
    with pytest.warns(UserWarning, match="repaired 2 infinite opacities"):
        got = load_columns(tmp_path, **changed("opacity", {0: np.inf, 1: -np.inf}))
    assert len(got) == 40
    assert got.opacities[0].sigmoid() > 0.99
    assert got.opacities[1].sigmoid() < 0.01


def test_scales_of_zero_become_tiny(tmp_path):
    with pytest.warns(UserWarning, match="repaired 1 scales of zero"):
        got = load_columns(tmp_path, **changed("scale_1", {2: -np.inf}))
    assert got.scales[2].exp().min() > 0


def test_zero_quaternions_become_the_identity(tmp_path):
    zero = {name: np.zeros(40, dtype=np.float32) for name in ("rot_0", "rot_1", "rot_2", "rot_3")}
    with pytest.warns(UserWarning, match="repaired 40 quaternions"):
        got = load_columns(tmp_path, **zero)
    assert torch.equal(got.quats, torch.tensor([1.0, 0, 0, 0]).expand(40, 4))


def test_good_files_load_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_columns(tmp_path)
        (tmp_path / "scene.splat").write_bytes(SPLAT)
        load_gaussians(tmp_path / "scene.splat")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_checkpoints_never_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"splats": Payload()}, "evil.pt")
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Payload()))
    for name in ("evil.pt", "evil.ckpt"):
        with pytest.raises(UserError, match="plain tensors"):
            load_gaussians(name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "neither gsplat's"),
        ([1, 2], "neither gsplat's"),
        ({"splats": {"means": torch.zeros(3, 3)}}, "lacks scales, quats"),
        ({"splats": GOOD.tensors() | {"quats": torch.zeros(40, 3)}}, "don't fit together"),
        ({"splats": GOOD.tensors() | {"means": "none"}}, "is not a float tensor"),
        ({"splats": GOOD.tensors() | {"means": torch.tensor(1.0)}}, "ckpt.pt"),
    ],
)
def test_other_checkpoints(tmp_path, content, message):
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(UserError, match=message):
        load_gaussians(tmp_path / "ckpt.pt")


def test_compressed_ply_with_lying_counts(tmp_path):
    path = tmp_path / "scene.compressed.ply"
    save_gaussians(random_gaussians(600, sh_degree=1), path)
    data = path.read_bytes()
    for old, new, message in [
        (b"element vertex 600", b"element vertex 700", "truncated"),
        (b"element chunk 3", b"element chunk 2", "72 more bytes follow"),
        (b"element sh 600", b"element sh 599", "9 more bytes follow"),
        (b"float min_x\n", b"float low_x\n", "unknown compressed .ply layout"),
        (b"uint packed_color", b"float packed_color", "unexpected property types"),
    ]:
        path.write_bytes(data.replace(old, new))
        with pytest.raises(UserError, match=message):
            load_gaussians(path)


def test_saving_what_and_where_it_can_not(tmp_path):
    with pytest.raises(UserError, match=r"unknown scene format '\.obj'"):
        save_gaussians(GOOD, tmp_path / "scene.obj")
    with pytest.raises(UserError, match="no Gaussians to save"):
        save_gaussians(GOOD[:0], tmp_path / "scene.ply")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't write"):
        save_gaussians(GOOD, tmp_path / "file" / "scene.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(UserError, match="can't write"):
        save_gaussians(GOOD, tmp_path / "folder.ply")
