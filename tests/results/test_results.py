"""Files that leave the program: whole or not at all, and readable by others."""

import errno
import json
import sys
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, sha256
from gs_ssd.results.folder import make_output_dir
from gs_ssd.results.manifest import peak_memory_mb, write_json
from gs_ssd.results.pictures import contact_sheet
from gs_ssd.results.video import to_uint8, write_video


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(UserError, match=r"can't write .*a.txt: No space left on device; choose another place"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_video_round_trip(tmp_path):
    frames = [np.full((32, 48, 3), 20 * i, dtype=np.uint8) for i in range(6)]
    write_video(frames, tmp_path / "v.mp4", fps=10)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "v.mp4"))
    meta = next(reader)
    assert meta["size"] == (48, 32) and meta["fps"] == 10
    for i, raw in enumerate(reader):
        assert abs(float(np.frombuffer(raw, np.uint8).mean()) - 20 * i) < 4


def test_contact_sheet_shows_every_view(tmp_path):
    before, after = torch.zeros(3, 16, 16, 3), torch.ones(3, 16, 16, 3)
    contact_sheet([("before", before), ("after", after)], tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape[1] == 3 * (16 + 6) + 6
    assert (pixels == 0).all(axis=-1).sum() >= 3 * 16 * 16


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_peak_memory_on_every_system(platform, monkeypatch):
    """Windows has no `resource`; the others count in bytes and kilobytes."""
    monkeypatch.setattr(sys, "platform", platform)
    if platform == "win32":
        psutil = SimpleNamespace(
            Process=lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=3 << 30))
        )
        monkeypatch.setitem(sys.modules, "psutil", psutil)
        monkeypatch.setitem(sys.modules, "resource", None)
    else:
        unit = 1 << 10 if platform == "linux" else 1
        usage = SimpleNamespace(ru_maxrss=(3 << 30) // unit)
        resource = SimpleNamespace(getrusage=lambda _: usage, RUSAGE_SELF=0)
        monkeypatch.setitem(sys.modules, "resource", resource)
    assert peak_memory_mb()["cpu"] == 3221.2  # MB of 10^6 bytes


def test_uint8_rounds_and_clamps():
    assert to_uint8(torch.tensor([-1.0, 0.5, 2.0])).tolist() == [0, 128, 255]


def test_output_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (make_output_dir(None, scene="s", prompt="p") for _ in range(2))
    assert first != second and first.parent == second.parent
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        make_output_dir("file", scene="s", prompt="p")


def test_json_and_hash(tmp_path):
    write_json({"a": 1.5}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1.5}
    (tmp_path / "b").write_bytes(b"abc")
    assert sha256(tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
