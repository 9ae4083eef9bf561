"""Damaged files of every format: a scene, cameras or one UserError, quickly and in bounded memory."""

from __future__ import annotations

import json
import resource
import time
import warnings

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.datasets import load_cameras
from tests.scene.layouts import colmap_text, inria_columns, ply_bytes, transforms
from tests.scene.test_datasets import binary_colmap, inria_entry, llff_table
from tests.synthetic import random_gaussians

CASES = 250  # per file
SECONDS = 3.0  # for one file
MEMORY = 512 * 1024  # KiB on top of what the process had

HEADER_LIES = [b"0", b"1", b"-1", b"99999999999", b"1e9", b"NaN", b"x", b"\xff\xfe", b"4294967296", b""]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to three random damages."""
    for _ in range(rng.integers(1, 4)):
        data = DAMAGES[rng.integers(len(DAMAGES))](data, rng)
    return data


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    array = bytearray(data)
    for position in rng.integers(len(array), size=rng.integers(1, 20)) if array else []:
        array[position] ^= 1 << rng.integers(8)
    return bytes(array)


def flip_early_bits(data: bytes, rng: np.random.Generator) -> bytes:
    return flip_bits(data[:400], rng) + data[400:]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    position = rng.integers(len(data) + 1)
    return data[:position] + rng.bytes(rng.integers(1, 40)) + data[position:]


def lie_about_a_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace one number in the readable part."""
    words = data[:2000].split(b" ")
    numbers = [i for i, word in enumerate(words) if word[:1].isdigit()]
    if not numbers:
        return data
    i = numbers[rng.integers(len(numbers))]
    rest = words[i].lstrip(b"0123456789.")
    words[i] = HEADER_LIES[rng.integers(len(HEADER_LIES))] + rest
    return b" ".join(words) + data[2000:]


def lie_about_a_length(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite eight bytes with a huge or tiny binary integer."""
    value = int(rng.choice([0, 1, 2**31, 2**32 - 1, 2**40, 2**63]))
    position = rng.integers(min(len(data), 300) + 1)
    return data[:position] + value.to_bytes(8, "little") + data[position + 8 :]


def repeat_or_drop_a_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    i = rng.integers(min(len(lines), 60))
    return b"\n".join(lines[:i] + [lines[i]] * int(rng.choice([0, 2])) + lines[i + 1 :])


def zero_a_stretch(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(data) + 1, size=2))
    return data[:start] + bytes([rng.choice([0, 255])]) * (stop - start) + data[stop:]


DAMAGES = [
    flip_bits,
    flip_early_bits,
    truncate,
    insert,
    lie_about_a_number,
    lie_about_a_length,
    repeat_or_drop_a_line,
    zero_a_stretch,
]


def survive(load, path, original: bytes, rng: np.random.Generator, cases: int = CASES) -> None:
    """`load(path)` succeeds or raises UserError for `cases` damaged versions of `original`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(cases):
        data = mutated(original, rng)
        path.write_bytes(data)
        started = time.perf_counter()
        try:
            load()
        except UserError as error:
            assert "\n" not in str(error), case
        assert time.perf_counter() - started < SECONDS, case
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(
    "name", ["a.ply", "text.ply", "big_endian.ply", "b.compressed.ply", "c.splat", "d.pt", "e.spz"]
)
def test_scenes(tmp_path, name):
    gaussians = random_gaussians(300, sh_degree=0 if name == "c.splat" else 1)
    path = tmp_path / name
    if name in ("text.ply", "big_endian.ply"):
        kind = "ascii" if name == "text.ply" else "binary_big_endian"
        path.write_bytes(ply_bytes(inria_columns(gaussians), kind))
    else:
        save_gaussians(gaussians, path)
    assert len(load_gaussians(path)) == 300
    survive(lambda: load_gaussians(path), path, path.read_bytes(), np.random.default_rng(1))


@pytest.mark.parametrize("name", ["images.bin", "cameras.bin", "images.txt", "cameras.txt"])
def test_colmap(tmp_path, name):
    pose = "0.9 0.1 0.2 0.3 0.5 -0.5 4"
    if name.endswith("txt"):
        cameras = ["1 OPENCV 640 480 500 510 320 240 0.1 0.01 0 0", "2 SIMPLE_PINHOLE 640 480 500 320 240"]
        colmap_text(tmp_path, cameras, [f"{i} {pose} {1 + i % 2} {i}.png" for i in range(1, 9)])
    else:
        binary_colmap(tmp_path)
    path = tmp_path / name
    load_cameras(tmp_path)
    survive(lambda: load_cameras(tmp_path), path, path.read_bytes(), np.random.default_rng(2))


@pytest.mark.parametrize("name", ["transforms.json", "cameras.json", "poses_bounds.npy"])
def test_camera_files(tmp_path, name):
    path = tmp_path / name
    if name == "transforms.json":
        path.write_bytes(
            transforms(
                [np.eye(4)] * 4, camera_angle_x=0.8, w=640, h=480, applied_transform=np.eye(4).tolist()
            )
        )
    elif name == "cameras.json":
        path.write_text(json.dumps([inria_entry(i) for i in range(4)]))
    else:
        np.save(path, llff_table())
    load_cameras(path)
    survive(lambda: load_cameras(path), path, path.read_bytes(), np.random.default_rng(3))
