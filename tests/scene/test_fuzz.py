"""Damaged files of every format: a scene, cameras, a selection or one UserError, quickly and in bounded memory.

The short lane damages each file 100 times. The long lane (`-m slow`, 1,000 times each, 23,000 files in all) prints its
counts with `-s`; those of the last release are in docs/robustness.md.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import warnings
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.datasets import load_cameras
from gs_ssd.scene.formats import spz
from gs_ssd.scene.masks import File
from tests.scene.layouts import colmap_text, extended_spz, inria_columns, ply_bytes, transforms
from tests.scene.test_datasets import binary_colmap, inria_entry, llff_table
from tests.synthetic import random_gaussians

resource = pytest.importorskip("resource", reason="memory is measured the Unix way")

SHORT, LONG = 100, 1000  # damaged versions of a file
SECONDS = 2.0  # of processor time, for one file
HONEST = 10  # times the memory that the undamaged file needs
SPARE = 64 * 1024  # KiB that libraries and allocators take for themselves

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


@dataclass
class Tally:
    """What became of the damaged versions of one file."""

    loaded: int = 0
    refused: int = 0
    slowest: float = 0.0


def survive(load, path, original: bytes, seed: int, cases: int) -> Tally:
    """`load()` succeeds or raises UserError for `cases` damaged versions of `original` at `path`."""
    rng, tally = np.random.default_rng(seed), Tally()
    path.write_bytes(original)
    load()
    before = peak_memory()
    for case in range(cases):
        path.write_bytes(mutated(original, rng))
        started = time.process_time()
        try:
            load()
            tally.loaded += 1
        except UserError as error:
            assert "\n" not in str(error), case
            tally.refused += 1
        tally.slowest = max(tally.slowest, time.process_time() - started)
        assert tally.slowest < SECONDS, case
    assert peak_memory() - before < HONEST * max(len(original) // 1024, 1) + SPARE
    print(f"{path.name:20} {tally.loaded:6} loaded {tally.refused:6} refused, slowest {tally.slowest:.2f} s")
    return tally


def peak_memory() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


lanes = pytest.mark.parametrize(
    "cases", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"]
)


def scene_bytes(folder, name: str) -> bytes:
    """An undamaged file of 300 Gaussians."""
    gaussians = random_gaussians(300, sh_degree=0 if name == "c.splat" else 1)
    kinds = {
        "text.ply": "ascii",
        "big_endian.ply": "binary_big_endian",
        "columns.ply": "binary_little_endian",
    }
    if name in kinds:
        columns = inria_columns(gaussians)
        if name == "columns.ply":
            columns |= {
                "filter_3D": np.ones(300, dtype=np.float32),
                "label": np.arange(300, dtype=np.float32),
            }
        data = ply_bytes(columns, kinds[name])
        return data.replace(b"element", b"comment SplatRenderMode: mip\nelement", 1)
    path = folder / name
    if name == "v3.spz":
        spz.write(gaussians, path, version=3)
    elif name == "extended.spz":
        spz.write(gaussians, path)
        extensions = (0xADBE0002, bytes(12)), (0xADBE0003, (6).to_bytes(4, "little"))
        return extended_spz(path.read_bytes(), *extensions)
    else:
        save_gaussians(gaussians, path)
    return path.read_bytes()


SCENES = [
    "a.ply",
    "text.ply",
    "big_endian.ply",
    "columns.ply",
    "b.compressed.ply",
    "c.splat",
    "d.pt",
    "v3.spz",
    "v4.spz",
    "extended.spz",
]


@lanes
@pytest.mark.parametrize("name", [*SCENES, "f.sog"])
def test_scenes(tmp_path, name, cases):
    if name.endswith(".sog"):
        pytest.importorskip("gaussforge")
    path = tmp_path / name
    original = scene_bytes(tmp_path, name)
    survive(lambda: load_gaussians(path), path, original, seed=1, cases=cases)


@lanes
@pytest.mark.parametrize("name", ["inside.spz", "inside.sog"])
def test_what_is_packed(tmp_path, name, cases):
    """Damage inside the container: checksums hide it from the test above."""
    path = tmp_path / name
    if name == "inside.spz":
        original = gzip.decompress(scene_bytes(tmp_path, "v3.spz"))
        repack = gzip.compress
    else:
        pytest.importorskip("gaussforge")
        packed = scene_bytes(tmp_path, "f.sog")
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            original = archive.read("meta.json")

        def repack(data: bytes) -> bytes:
            out = io.BytesIO()
            source = zipfile.ZipFile(io.BytesIO(packed))
            with source, zipfile.ZipFile(out, "w") as archive:
                for entry in source.infolist():
                    changed = entry.filename == "meta.json"
                    archive.writestr(entry.filename, data if changed else source.read(entry))
            return out.getvalue()

    def load():
        path.write_bytes(repack(path.read_bytes()))
        load_gaussians(path)

    survive(load, path, original, seed=6, cases=cases)


@lanes
def test_what_loads_can_be_saved(tmp_path, cases):
    """Whatever comes through the loader, damaged or not, is a scene that every writer takes."""
    path, original = tmp_path / "a.ply", scene_bytes(tmp_path, "columns.ply")

    def load_and_save():
        scene = load_gaussians(path)
        for suffix in (".ply", ".splat", ".compressed.ply"):
            save_gaussians(scene, tmp_path / f"out{suffix}")
            load_gaussians(tmp_path / f"out{suffix}")

    survive(load_and_save, path, original, seed=4, cases=cases)


@lanes
@pytest.mark.parametrize("name", ["images.bin", "cameras.bin", "images.txt", "cameras.txt"])
def test_colmap(tmp_path, name, cases):
    pose = "0.9 0.1 0.2 0.3 0.5 -0.5 4"
    if name.endswith("txt"):
        cameras = ["1 OPENCV 640 480 500 510 320 240 0.1 0.01 0 0", "2 SIMPLE_PINHOLE 640 480 500 320 240"]
        colmap_text(tmp_path, cameras, [f"{i} {pose} {1 + i % 2} {i}.png" for i in range(1, 9)])
    else:
        binary_colmap(tmp_path)
    path = tmp_path / name
    survive(lambda: load_cameras(tmp_path), path, path.read_bytes(), seed=2, cases=cases)


@lanes
@pytest.mark.parametrize("name", ["transforms.json", "cameras.json", "poses_bounds.npy"])
def test_camera_files(tmp_path, name, cases):
    path = tmp_path / name
    if name == "transforms.json":
        values = {"camera_angle_x": 0.8, "w": 640, "h": 480, "applied_transform": np.eye(4).tolist()}
        path.write_bytes(transforms([np.eye(4)] * 4, **values))
    elif name == "cameras.json":
        path.write_text(json.dumps([inria_entry(i) for i in range(4)]))
    else:
        np.save(path, llff_table())
    survive(lambda: load_cameras(path), path, path.read_bytes(), seed=3, cases=cases)


@lanes
@pytest.mark.parametrize("name", ["mask.npy", "mask.pt"])
def test_mask_files(tmp_path, name, cases):
    path, scene = tmp_path / name, random_gaussians(300)
    chosen = scene.means[:, 0] > 0
    if name == "mask.npy":
        np.save(path, chosen.numpy())
    else:
        torch.save(chosen, path)
    survive(lambda: File(path)(scene), path, path.read_bytes(), seed=5, cases=cases)
