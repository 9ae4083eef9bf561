"""Camera paths and what is rendered along them."""

from __future__ import annotations

import json
from functools import partial

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.results.camera_paths import keyframe_cameras, read_keyframes
from gs_ssd.results.shots import write_shots
from gs_ssd.scene import find_frame, orbit
from gs_ssd.scene.views import azimuths
from tests.synthetic import random_gaussians

BALL = random_gaussians(300)
FRAME = find_frame(BALL)
BLUE = torch.tensor([0.0, 0.0, 1.0])
path_of = partial(keyframe_cameras, FRAME, frames=13, width=32, height=32)


def test_a_path_passes_its_keyframes_and_keeps_the_arc():
    cameras = path_of([{"azimuth_degrees": 0}, {"azimuth_degrees": 90}])
    distances = (cameras.positions - FRAME.center).norm(dim=1)
    assert_close(distances, distances[0].expand(13))
    turned = azimuths(FRAME, cameras.positions)
    assert_close(turned, torch.linspace(0, 90, 13), atol=0.01, rtol=0)
    start = orbit(FRAME, 1, width=32, height=32)
    assert_close(cameras.viewmats[:1], start.viewmats, atol=1e-5, rtol=0)
    assert_close(cameras.Ks[:1], start.Ks)


def test_a_path_through_the_world_is_smooth():
    corners = [[3, 0, 0], [0, 0, 3], [-3, 0, 0], [0, 0, -3]]
    cameras = path_of([{"position": corner, "target": [0, 0, 0]} for corner in corners], frames=61)
    assert_close(cameras.positions[[0, 20, 40, 60]], torch.tensor(corners).float(), atol=1e-4, rtol=0)
    speed = cameras.positions.diff(dim=0)
    assert speed.diff(dim=0).norm(dim=1).max() < 0.1 * speed.norm(dim=1).max()  # no corner at a keyframe
    assert_close(
        cameras.viewmats[:, :2, 3], torch.zeros(61, 2), atol=1e-4, rtol=0
    )  # the target is in the middle


def test_missing_numbers_are_the_previous_ones_and_times_count():
    cameras = path_of(
        [{"time": 0, "fov_degrees": 30}, {"time": 9, "azimuth_degrees": 90}, {"time": 12, "distance": 2}]
    )
    assert_close(cameras.Ks[:, 0, 0], cameras.Ks[0, 0, 0].expand(13))
    assert azimuths(FRAME, cameras.positions)[9] == pytest.approx(90, abs=0.1)
    distances = (cameras.positions - FRAME.center).norm(dim=1)
    assert distances[12] / distances[0] == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize(
    "keyframes, problem",
    [
        ([], "at least 2 keyframes, here are none"),
        ([{}], "here is 1"),
        ([{}, {"azimut": 3}], r"keyframe 1: 'azimut' doesn't belong there; there are: azimuth_degrees"),
        ([{}, {"position": [0, 0, 0]}], "keyframe 1: 'position' doesn't belong"),
        ([{"azimuth_degrees": "x"}, {}], "keyframe 0: azimuth_degrees=x must be a number"),
        ([{"position": [1, 2]}, {}], "keyframe 0: position=.* must be a list of 3 numbers"),
        ([{"fov_degrees": 180}, {}], "fov_degrees=180"),
        ([{"time": 0}, {}], "all of them a time"),
        ([{"time": 1}, {"time": 1}], "keyframe 1: time=1 must be later"),
        ([{"position": [1, 1, 1], "target": [1, 1, 1]}, {}], "stands on its target"),
    ],
)
def test_keyframes_that_make_no_path(keyframes, problem):
    with pytest.raises(UserError, match=problem):
        path_of(keyframes)


def test_keyframe_files(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"keyframes": [{}, {}]}))
    (tmp_path / "b.json").write_text(json.dumps([{"id": 0}]))
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "d.json").write_text(json.dumps({"keyframes": [1]}))
    assert read_keyframes(tmp_path / "a.json") == [{}, {}] and read_keyframes(tmp_path / "b.json") is None
    for name in ("c.json", "d.json"):
        with pytest.raises(UserError, match=name):
            read_keyframes(tmp_path / name)


def shots(output, **settings):
    cameras = orbit(FRAME, 4, width=48, height=32)
    return write_shots(BALL, cameras, output, renderer=partial(render, background=BLUE), **settings), cameras


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("show", ["rgb", "depth", "alpha"])
def test_videos(suffix, show, tmp_path):
    shots(tmp_path / f"v{suffix}", show=show)
    if suffix == ".gif":
        with Image.open(tmp_path / "v.gif") as gif:
            assert gif.size == (48, 32) and gif.n_frames == 4
    else:
        frames = imageio_ffmpeg.read_frames(str(tmp_path / "v.mp4"))
        assert next(frames)["size"] == (48, 32) and sum(1 for _ in frames) == 4


def test_pictures_are_what_the_renderer_shows(tmp_path):
    _, cameras = shots(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{i:05d}.png" for i in range(4)]
    expected = render(BALL, cameras[2], background=BLUE).rgb[0].clamp(0, 1).numpy()
    assert np.abs(np.asarray(Image.open(tmp_path / "a" / "00002.png")) / 255 - expected).max() < 0.003
    shots(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "a" / "00000.png").read_bytes()


def test_depth_has_sixteen_bits_and_says_its_range(tmp_path):
    (near, far), cameras = shots(tmp_path / "d", show="depth")
    pixels = np.asarray(Image.open(tmp_path / "d" / "00001.png"))
    out = render(BALL, cameras[1], render_mode="RGB+ED")
    solid = out.alpha[0, ..., 0].numpy() > 0.5
    depth = far - pixels.astype(float) / 65535 * (far - near)
    expected = out.depth[0, ..., 0].numpy().clip(near, far)
    assert pixels.dtype == np.uint16 and (pixels[~solid] == 0).all() and solid.sum() > 100
    assert np.abs(depth - expected)[solid].max() < 1e-3 * (far - near)


def test_transparency_puts_any_background_back(tmp_path):
    _, cameras = shots(tmp_path / "t", show="rgba")
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "t" / "00003.png"))).float() / 255
    again = pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:]) * BLUE
    assert_close(again, render(BALL, cameras[3], background=BLUE).rgb[0].clamp(0, 1), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "output, show, problem",
    [
        ("v.avi", "rgb", r"must end in \.mp4, \.gif or \.png"),
        ("v.mp4", "rgba", "no transparency"),
        ("v.mp4", "normals", "must be one of rgb, rgba, depth, alpha"),
        ("file", "rgb", "is a file"),
    ],
)
def test_what_cant_be_written_is_refused_before_anything_is_rendered(output, show, problem, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=problem):
        write_shots(BALL, orbit(FRAME, 1, width=8, height=8), tmp_path / output, renderer=None, show=show)
