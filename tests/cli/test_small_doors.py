"""`gs-ssd render` and `gs-ssd blend`: files in, files out, one-line errors, and quick about a mistyped word."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from gs_ssd.cli import blend, render
from gs_ssd.files import sha256
from gs_ssd.scene import find_frame, load_gaussians, orbit, save_gaussians
from gs_ssd.scene.datasets import save_cameras
from tests.scene.layouts import colmap_text
from tests.scene.test_datasets import colmap_pose
from tests.synthetic import random_gaussians

SMALL = ["size=32", "frames=4", "device=cpu"]


@pytest.fixture
def ball(tmp_path):
    path = tmp_path / "my ball.ply"
    save_gaussians(random_gaussians(200), path)
    return path


def failure(door, capsys, *arguments: str) -> str:
    """The one line that a refused command says."""
    assert door.main(list(arguments)) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said
    return said


def test_an_orbit_of_a_file_becomes_a_video(ball, tmp_path, capsys):
    output = tmp_path / "turn.mp4"
    assert render.main([f"scene={ball}", f"output={output}", *SMALL]) == 0
    frames = imageio_ffmpeg.read_frames(str(output))
    assert next(frames)["size"] == (32, 32) and sum(1 for _ in frames) == 4
    assert "4 frames of 32x32 pixels" in capsys.readouterr().out


def test_keyframes_and_given_cameras(ball, tmp_path):
    (tmp_path / "way.json").write_text(json.dumps({"keyframes": [{}, {"azimuth_degrees": 90}]}))
    assert (
        render.main([f"scene={ball}", f"path={tmp_path / 'way.json'}", f"output={tmp_path / 'a'}", *SMALL])
        == 0
    )
    assert len(list((tmp_path / "a").iterdir())) == 4
    cameras = orbit(find_frame(load_gaussians(ball)), 3, width=101, height=67)
    save_cameras(cameras, tmp_path / "cameras.json")
    arguments = [f"path={tmp_path / 'cameras.json'}", f"output={tmp_path / 'b'}", "show=depth", "size=32"]
    assert render.main([f"scene={ball}", "device=cpu", *arguments]) == 0
    pictures = [Image.open(path) for path in sorted((tmp_path / "b").iterdir())]
    assert [picture.size for picture in pictures] == [(32, 22)] * 3 and np.asarray(pictures[0]).max() > 0


def test_a_video_flies_through_the_cameras_of_a_capture(ball, tmp_path, capsys):
    """A COLMAP folder: without frames= one picture per camera, with it a smooth way that passes through each."""
    given = orbit(find_frame(load_gaussians(ball)), 3, width=96, height=64)
    focal, (x, y) = float(given.Ks[0, 0, 0]), given.Ks[0, :2, 2].tolist()
    poses = [" ".join(map(str, colmap_pose(view))) for view in given.viewmats]
    colmap_text(
        tmp_path / "capture" / "sparse" / "0",
        [f"1 PINHOLE 96 64 {focal} {focal} {x} {y}"],
        [f"{i} {pose} 1 {i}.png" for i, pose in enumerate(poses)],
    )
    words = [f"scene={ball}", f"path={tmp_path / 'capture'}", "size=48", "device=cpu"]
    for frames, name in ((None, "each"), (5, "way")):
        more = [] if frames is None else [f"frames={frames}"]
        assert render.main([*words, *more, f"output={tmp_path / name}"]) == 0
    each, way = (
        [np.asarray(Image.open(path), float) for path in sorted((tmp_path / name).iterdir())]
        for name in ("each", "way")
    )
    assert (len(each), len(way)) == (3, 5) and each[0].shape == (32, 48, 3)
    for camera, frame in zip(each, way[::2]):
        assert np.abs(camera - frame).max() <= 1
    assert all(np.abs(between - camera).mean() > 1 for between in way[1::2] for camera in each)
    assert render.main([*words, "frames=6", f"output={tmp_path / 'flight.mp4'}"]) == 0
    frames = imageio_ffmpeg.read_frames(str(tmp_path / "flight.mp4"))
    assert next(frames)["size"] == (48, 32) and sum(1 for _ in frames) == 6


def test_a_runs_folder_is_rendered_as_the_run_saw_it(ball, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    ball.rename(run / "edited.ply")
    views = {"front_azimuth_degrees": 90.0, "fov_degrees": [30.0, 40.0]}
    scene = {"name": "ball", "up": [0, 0, 1], "center": [0, 0, 0.5], "radius": 2.0, "background": [0, 1, 0]}
    scene |= {"views": views, "view_words": None, "cameras": None}
    (run / "run.json").write_text(json.dumps({"scene": scene, "prompts": {"target": "a drawing"}}))
    opened = render.scene_of(render.RenderSettings(scene=str(run)))
    assert opened.frame.radius == 2.0 and opened.frame.up.tolist() == [0, 0, 1]
    assert opened.background == (0, 1, 0) and opened.front_azimuth_degrees == 90
    assert render.main([f"scene={run}", f"output={tmp_path / 'one.png'}", *SMALL]) == 0
    assert Image.open(tmp_path / "one.png").getpixel((0, 0)) == (0, 255, 0)


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["sene=x.ply"], "no setting is called 'sene' (did you mean scene?)"),
        (["scene"], "no setting is called 'scene'"),
        (["--scene=x.ply"], "settings are written scene=x.ply"),
        (["output=a.mp4"], "scene= is missing"),
        (["scene=x.ply"], "x.ply: no such file"),
        (["scene=x.ply", "size=33"], "size=33 is odd"),
        (["scene=x.ply", "size=big"], "size=big must be a whole number"),
        (["scene=x.ply", "fps=0"], "fps=0.0 must be a number"),
        (["scene=x.ply", "frames=0"], "frames=0 must be"),
        (["scene=x.ply", "show=normals"], "show=normals must be one of"),
        (["scene=x.ply", "background=red"], "background=red must be a list of numbers"),
        (["scene=x.ply", "background=[1,1]"], "background=(1.0, 1.0) must be a list of 3"),
        (["scene=x.ply", "output=a.avi"], "must end in .mp4"),
        (["scene=."], "is a folder without a finished edit"),
        (["scene=" + "x" * 300], "x"),
        (["scene=x.ply", "output=" + "x" * 300], "can't be written: File name too long"),
        (["scene=face", "path=nowhere"], "nowhere"),
    ],
)
def test_render_refuses_in_one_line(arguments, problem, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert problem in failure(render, capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_run_is_blended(ball, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    edited = load_gaussians(ball)
    edited.sh0.add_(0.5)
    save_gaussians(edited, run / "edited.ply")
    np.save(run / "origin.npy", np.arange(200))
    (run / "run.json").write_text(json.dumps({"input": {"path": str(ball), "sha256": sha256(ball)}}))
    assert blend.main([f"run={run}", "strength=0.5"]) == 0
    half = load_gaussians(run / "blend_0.5.ply")
    assert (half.sh0 - load_gaussians(ball).sh0 - 0.25).abs().max() < 1e-6
    assert str(run / "blend_0.5.ply") in capsys.readouterr().out
    for arguments, problem in (
        ([f"run={run}", "strength=2"], "strength=2.0 must be a number from 0 to 1.5"),
        ([f"run={run}"], "strength= is missing"),
        ([f"run={tmp_path}", "strength=1"], "holds no finished edit"),
        (["run=" + "x" * 300, "strength=1"], "holds no finished edit"),
        ([f"run={run}", "strength=0.5", "source=" + "x" * 300], "is not there"),
        ([f"run={run}", "strength=1", "output=x.obj"], "unknown scene format"),
    ):
        assert problem in failure(blend, capsys, *arguments)


@pytest.mark.parametrize("door", ["render", "blend"])
def test_help_and_mistyped_words_are_answered_at_once(door):
    """Without torch, whose import is what takes time."""
    for arguments in (["--help"], [], ["sorce=x"]):
        command = [sys.executable, "-X", "importtime", "-m", f"gs_ssd.cli.{door}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == (2 if arguments == ["sorce=x"] else 0) and "Traceback" not in done.stderr
        imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
        assert "gs_ssd.errors" in imported and not imported & {"torch", "numpy", "hydra"}
