"""Videos are whole or not there, and what can't be a video is refused before anything is rendered."""

from __future__ import annotations

import stat
import sys
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.results.scene import Videos
from gs_ssd.results.video import smaller_copy, video_writer, write_video
from gs_ssd.scene import find_frame
from tests.synthetic import random_gaussians

FRAMES = [np.full((32, 48, 3), 20 * i, dtype=np.uint8) for i in range(6)]


@pytest.fixture
def ffmpeg_that(tmp_path, monkeypatch):
    """Puts a shell script in the place of ffmpeg."""

    def install(script: str) -> None:
        program = tmp_path / "ffmpeg.sh"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))

    if sys.platform == "win32":
        pytest.skip("the stand-in for ffmpeg is a shell script")
    return install


SAID = "printf 'some hint\\nNo space left on device\\n' >&2"
LAST = 'for last in "$@"; do :; done'


@pytest.mark.parametrize(
    "script, reason",
    [
        (f"cat > /dev/null; {SAID}; exit 1", "No space left on device"),
        (f"{SAID}; exit 1", "No space left on device"),  # ends while frames are still sent
        ("exit 7", "exit code 7"),
        (f"cat > /dev/null; {LAST}; echo half > $last; exit 0", "only 0 of 200 frames were written"),
    ],
)
def test_a_failed_ffmpeg_is_an_error_and_leaves_no_video(script, reason, ffmpeg_that, tmp_path):
    ffmpeg_that(script)
    with pytest.raises(UserError, match=reason) as error:
        write_video([np.zeros((64, 64, 3), np.uint8)] * 200, tmp_path / "v.mp4")
    assert "\n" not in str(error.value) and "some hint" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg.sh"]


def test_a_failed_ffmpeg_leaves_the_older_video(ffmpeg_that, tmp_path):
    (tmp_path / "v.mp4").write_text("old")
    ffmpeg_that("exit 1")
    with pytest.raises(UserError):
        write_video(FRAMES, tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").read_text() == "old"


def test_a_full_disk_is_noticed(tmp_path):
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (20, 256, 256, 3), dtype=np.uint8)
    write_video(noise, tmp_path / "v.mp4")
    size = (tmp_path / "v.mp4").stat().st_size
    (tmp_path / "v.mp4").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(UserError, match="can't write"):
            write_video(noise, tmp_path / "v.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_no_video_is_left_when_the_frames_break_off(tmp_path):
    with pytest.raises(KeyboardInterrupt), video_writer(tmp_path / "v.mp4") as video:
        video.add(FRAMES[0])
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "frames, problem",
    [
        ([], "at least one frame"),
        ([np.zeros((33, 48, 3), np.uint8)], "must be even, here they are 48x33"),
        ([np.zeros((1, 1, 3), np.uint8)], "must be even"),
        ([FRAMES[0], FRAMES[0][:16]], "frame 1 has shape"),
    ],
)
def test_frames_that_make_no_video(frames, problem, tmp_path):
    with pytest.raises(UserError, match=problem):
        write_video(frames, tmp_path / "v.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -3, float("nan"), "x", None, True, 1e9])
def test_a_rate_that_is_none_is_refused(fps, tmp_path):
    with pytest.raises(UserError, match=r"fps=.* must be a number"):
        write_video(FRAMES, tmp_path / "v.mp4", fps=fps)


@pytest.mark.parametrize(
    "setting, value",
    [
        *(("fps", value) for value in (0, -3, "x", None)),
        *(("size", value) for value in (0, 1, 385, -2, "x", 1e9, 64.0)),
        *(("frames", value) for value in (0, "x", None, 2.5)),
        *(("sheet_size", value) for value in (0, "x")),
        *(("sheet_views", value) for value in (0, "x")),
        ("elevation_degrees", "x"),
    ],
)
def test_how_results_are_shown_is_checked_when_it_is_set(setting, value):
    frame = find_frame(random_gaussians(20))
    with pytest.raises(UserError, match=rf"render\.{setting}="):
        Videos.around(frame, **{setting: value})


def test_gif(tmp_path):
    write_video(FRAMES, tmp_path / "v.gif", fps=10)
    with Image.open(tmp_path / "v.gif") as gif:
        assert gif.size == (48, 32) and gif.n_frames == 6 and gif.info["duration"] == 100


def test_fractional_rates_are_kept(tmp_path):
    write_video(FRAMES, tmp_path / "v.mp4", fps=24000 / 1001)
    meta = next(imageio_ffmpeg.read_frames(str(tmp_path / "v.mp4")))
    assert meta["fps"] == pytest.approx(float(Fraction(24000, 1001)), abs=0.01)


def test_a_smaller_copy(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (10, 128, 256, 3), dtype=np.uint8)
    write_video(noise, tmp_path / "v.mp4")
    smaller_copy(tmp_path / "v.mp4", tmp_path / "small.mp4", side=64)
    assert next(imageio_ffmpeg.read_frames(str(tmp_path / "small.mp4")))["size"] == (128, 64)
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "v.mp4").stat().st_size / 4


def test_a_video_with_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"ends in \.mp4 or \.gif"):
        write_video(FRAMES, tmp_path / "v.avi")
