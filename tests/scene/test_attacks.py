"""Files made to hang, to fill the memory or to pass for something else: one line each, within two seconds.

What waits for ever hangs the test; what counts is the processor's time, which others on the machine don't change.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import time
import zipfile

import numpy as np
import pytest
import torch
import zstandard

from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.datasets import load_cameras
from gs_ssd.scene.masks import File
from tests.scene.layouts import colmap_text, inria_columns, ply_bytes, splat_bytes, transforms
from tests.scene.test_datasets import binary_colmap
from tests.synthetic import random_gaussians

resource = pytest.importorskip("resource", reason="memory is measured the Unix way")

SECONDS = 2.0
MEMORY = 256 * 1024  # KiB


def refused(load, message: str) -> None:
    """`load()` raises one line that matches `message`, quickly and in little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        load()
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    assert "\n" not in str(caught.value)


LOADERS = {
    "scene.ply": load_gaussians,
    "scene.splat": load_gaussians,
    "scene.spz": load_gaussians,
    "scene.sog": load_gaussians,
    "scene.pt": load_gaussians,
    "transforms.json": load_cameras,
    "cameras.json": load_cameras,
    "poses_bounds.npy": load_cameras,
    "images.bin": load_cameras,
    "mask.npy": lambda path: File(path)(random_gaussians(5)),
    "mask.pt": lambda path: File(path)(random_gaussians(5)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_pipes_and_devices_are_refused(tmp_path, name):
    """Reading a pipe waits for ever, reading /dev/zero never ends."""
    os.mkfifo(tmp_path / name)
    refused(lambda: LOADERS[name](tmp_path / name), "is a pipe, not a file")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    refused(lambda: LOADERS[name](tmp_path / name), "is a device, not a file")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(name)
    refused(lambda: LOADERS[name](tmp_path / name), "can't be read")


@pytest.mark.parametrize("name", ["transforms.json", "cameras.json", "images.bin", "poses_bounds.npy"])
def test_pipes_in_a_folder_of_cameras_are_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused(lambda: load_cameras(tmp_path), "holds no cameras")


@pytest.mark.parametrize("name", ["a" * 300 + ".ply", "line\nbreak.ply", "zero\0byte.ply"])
def test_names_that_no_file_can_have(tmp_path, name):
    for load in (load_gaussians, load_cameras, lambda path: File(path)(random_gaussians(5))):
        refused(lambda load=load: load(tmp_path / name), "no such file|can't be read")


def test_an_endless_file_of_cameras_is_not_read(tmp_path):
    with (tmp_path / "cameras.json").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    refused(lambda: load_cameras(tmp_path), "too many")


@pytest.mark.parametrize("count", [1 << 24, 1 << 27])
def test_a_checkpoint_of_expanded_tensors(tmp_path, count):
    widths = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3), "shN": (0, 3)}
    splats = {name: torch.zeros(1).expand(count, *width) for name, width in widths.items()}
    torch.save({"splats": splats}, tmp_path / "scene.pt")
    assert (tmp_path / "scene.pt").stat().st_size < 4000
    refused(lambda: load_gaussians(tmp_path / "scene.pt"), "stand for .* bytes, more than the file has")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")
def test_a_checkpoint_of_sparse_tensors(tmp_path):
    splats = random_gaussians(5).tensors() | {"means": torch.eye(3).to_sparse()}
    torch.save({"splats": splats}, tmp_path / "scene.pt")
    refused(
        lambda: load_gaussians(tmp_path / "scene.pt"),
        "means in the checkpoint holds no plain numbers|damaged",
    )


def test_a_checkpoint_that_unpacks_to_more_than_it_has(tmp_path):
    torch.save({"splats": {"means": torch.zeros(1 << 22, 3)}}, tmp_path / "plain.pt")
    deflated = zipfile.ZipFile(tmp_path / "scene.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pt") as source, deflated as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    refused(lambda: load_gaussians(tmp_path / "scene.pt"), "unpacks to .* bytes, which no checkpoint does")


def spz_header(version: int, count: int, degree: int = 0) -> bytes:
    return struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, 12, 0, 5)


def test_bombs_in_spz(tmp_path):
    path = tmp_path / "scene.spz"
    body = spz_header(3, 1 << 26) + bytes(20 << 20)
    path.write_bytes(gzip.compress(body))
    refused(lambda: load_gaussians(path), r"promises 67,108,864 Gaussians in")
    path.write_bytes(gzip.compress(b"") * 200_000)
    refused(lambda: load_gaussians(path), "truncated or not a .spz")
    count = 20_000
    zeros = zstandard.ZstdCompressor().compress(bytes(1 << 29))
    table = b"".join(struct.pack("<QQ", len(zeros), count * width) for width in (9, 1, 3, 3, 4))
    path.write_bytes(spz_header(4, count) + struct.pack("<I12x", 32) + table + 5 * zeros)
    refused(lambda: load_gaussians(path), r"stream 0 doesn't unpack to 180,000 bytes")
    path.write_bytes(spz_header(4, 1 << 31) + struct.pack("<I12x", 32) + table + 5 * zeros)
    refused(lambda: load_gaussians(path), "promises")


def sog(path, count: object, **files: bytes) -> None:
    axis = [0.0, 0.0, 0.0]
    book = [0.0] * 256
    meta = {
        "version": 2,
        "count": count,
        "means": {"mins": axis, "maxs": axis, "files": ["means_l.webp"] * 2},
    }
    meta |= {"scales": {"codebook": book, "files": ["s.webp"]}, "quats": {"files": ["q.webp"]}}
    meta |= {"sh0": {"codebook": book, "files": ["c.webp"]}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, content in files.items():
            archive.writestr(name.replace("_webp", ".webp"), content)


def test_bombs_in_sog(tmp_path):
    import io

    from PIL import Image

    path = tmp_path / "scene.sog"
    out = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(out, "WEBP", lossless=True)
    sog(path, 10, means_l_webp=out.getvalue())
    refused(lambda: load_gaussians(path), "means_l.webp has 2000 x 2000 pixels for 10 values")
    sog(path, 1 << 40)
    refused(lambda: load_gaussians(path), "promises 1099511627776 Gaussians")
    sog(path, "many")
    refused(lambda: load_gaussians(path), "damaged or not a .sog")
    sog(path, 10, means_l_webp=bytes(1 << 28))
    refused(lambda: load_gaussians(path), "means_l.webp unpacks to 268,435,456 bytes")
    sog(path, 10)
    refused(lambda: load_gaussians(path), "damaged or not a .sog")
    path.write_bytes(b"PK\3\4 and nothing more")
    refused(lambda: load_gaussians(path), "damaged or not a .sog")


@pytest.mark.parametrize("kind", ["program", "array", "zeros", "one", "text behind"])
def test_other_files_are_no_splat(tmp_path, kind):
    """A .splat has no signature; programs and arrays passed for 2,286 of 3,000 and 998 of 1,000 Gaussians."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "array.npy", rng.normal(size=(8000,)).astype(np.float32))
    data = {
        "program": open("/bin/bash", "rb").read(96_000),  # noqa: SIM115
        "array": (tmp_path / "array.npy").read_bytes()[:32_000],
        "zeros": bytes(128 * 32),
        "one": bytes(32),
        "text behind": splat_bytes(random_gaussians(10, sh_degree=0))
        + b"and now for something different." * 10,
    }[kind]
    (tmp_path / "scene.splat").write_bytes(data)
    refused(lambda: load_gaussians(tmp_path / "scene.splat"), "not those of a .splat")


@pytest.mark.parametrize("kind", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_rows_behind_the_headers_count_are_noticed(tmp_path, kind):
    data = ply_bytes(inria_columns(random_gaussians(300)), kind)
    (tmp_path / "scene.ply").write_bytes(data.replace(b"vertex 300", b"vertex 2"))
    refused(
        lambda: load_gaussians(tmp_path / "scene.ply"),
        r"the .ply header counts 2 rows, but .* more \w+ follow",
    )
    (tmp_path / "scene.ply").write_bytes(data + b"\n")  # an editor's line end
    assert len(load_gaussians(tmp_path / "scene.ply")) == 300


LINES = [f"{i} 1 0 0 0 0 0 {i} 1 picture {i}.png" for i in range(1, 13)]
CAMERA = ["1 PINHOLE 640 480 500 500 320 240"]


@pytest.mark.parametrize("points", ["", "320.5 240.5 -1 100 200 17", None])
def test_images_txt_with_and_without_its_lines_of_points(tmp_path, points):
    """Tools that drop empty lines halved the cameras without a word."""
    colmap_text(tmp_path, CAMERA, [])
    lines = [text for line in LINES for text in ((line,) if points is None else (line, points))]
    (tmp_path / "images.txt").write_text("\n".join(["# Image list", *lines, ""]))
    assert len(load_cameras(tmp_path)) == 12


@pytest.mark.parametrize("name", ["images.bin", "cameras.bin"])
def test_a_count_smaller_than_the_table_is_noticed(tmp_path, name):
    binary_colmap(tmp_path)
    data = (tmp_path / name).read_bytes()
    (count,) = struct.unpack_from("<Q", data)
    (tmp_path / name).write_bytes(struct.pack("<Q", count - 1) + data[8:])
    refused(lambda: load_cameras(tmp_path), "bytes follow them|lacks")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"camera_angle_x": np.pi}, "focal length"),
        ({"fl_x": 1e-9}, "focal length 1e-09 for 640 pixels"),
        ({"fl_x": 1e9}, r"focal length 1e\+09"),
        ({"fl_x": 500, "cx": 1e9}, r"principal point at 1e\+09, 240"),
        ({"fl_x": 500, "fl_y": -500}, "focal length -500"),
    ],
)
def test_intrinsics_that_are_no_camera(tmp_path, values, message):
    (tmp_path / "transforms.json").write_bytes(transforms([np.eye(4)] * 2, w=640, h=480, **values))
    refused(lambda: load_cameras(tmp_path), message)


@pytest.mark.slow
def test_many_cameras_load_quickly(tmp_path):
    """20,000 took 9 s."""
    lines = [f"{i} 1 0 0 0 0 0 {i} 1 {i}.png\n" for i in range(1, 20_001)]
    colmap_text(tmp_path, CAMERA, lines)
    started = time.process_time()
    assert len(load_cameras(tmp_path)) == 20_000
    assert time.process_time() - started < 4


def test_loading_a_large_scene_needs_little_more_than_the_scene(tmp_path):
    """500,000 Gaussians: 32 MB of .splat and of numbers; it may take five times that."""
    save_gaussians(random_gaussians(1000, sh_degree=0), tmp_path / "scene.splat")
    (tmp_path / "scene.splat").write_bytes((tmp_path / "scene.splat").read_bytes() * 500)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(load_gaussians(tmp_path / "scene.splat")) == 500_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5 * 32 * 1024
