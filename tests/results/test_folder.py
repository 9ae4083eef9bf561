"""A run's folder: checked before any work, never two runs in one, nothing of the user's lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.render import render
from gs_ssd.results.folder import FILES, clear, make_output_dir, slug
from gs_ssd.results.image_files import load_image
from gs_ssd.results.scene import Videos, write
from gs_ssd.scene import find_frame, save_gaussians
from tests.synthetic import random_gaussians


def results(folder: Path, seed: int = 0, **more) -> None:
    before, after = random_gaussians(20, seed=seed), random_gaussians(20, seed=seed + 1)
    videos = Videos.around(find_frame(before), frames=2, size=16, sheet_views=2, sheet_size=16)
    scenes = {"before": before, "after": after, "renderer": render, "videos": videos}
    write(folder, **scenes, reports=[], labels=("a ball", "a cube"), **more)


def test_a_start_leaves_an_earlier_run_alone(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text("old")
    assert make_output_dir(tmp_path, scene="s", prompt="p") == tmp_path
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(FILES, "old")


def test_new_results_replace_all_of_an_earlier_run_and_nothing_else(tmp_path):
    for name in (*FILES, "notes.txt"):
        (tmp_path / name).write_text("old")
    results(tmp_path, manifest=lambda: {"seed": 1})
    files = {path.name for path in tmp_path.iterdir()}
    assert files & {"metrics.json", "loss.png", "progress.png"} == set()
    assert (tmp_path / "notes.txt").read_text() == "old"
    assert all((tmp_path / name).read_bytes() != b"old" for name in files - {"notes.txt"})
    assert json.loads((tmp_path / "run.json").read_text())["output"]["gaussians"] == 20


def test_a_run_that_is_cut_short_leaves_no_file_of_the_older_one_and_no_manifest(tmp_path, monkeypatch):
    results(tmp_path, manifest=lambda: {}, metrics=lambda: {"a": 1})

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gs_ssd.results.scene.contact_sheet", killed)
    old = (tmp_path / "edited.ply").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        results(tmp_path, seed=2, manifest=lambda: {}, metrics=lambda: {"a": 2})
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"edited.ply", "cameras.json", "turntable.mp4", "before_after.mp4"}
    assert (tmp_path / "edited.ply").read_bytes() != old


def test_a_scene_that_cant_be_written_leaves_the_older_run_whole(tmp_path, monkeypatch):
    results(tmp_path, manifest=lambda: {})
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise UserError("no space")

    monkeypatch.setattr("gs_ssd.results.scene.save_gaussians", full)
    with pytest.raises(UserError, match="no space"):
        results(tmp_path, seed=2, manifest=lambda: {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_what_a_killed_run_left_half_written_goes_at_the_next_start(tmp_path):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "loss.png") as temporary:
        left = [temporary.name, ".edited-ab12cd_9.ply", "..edited-ab12cd_9-zz12cd_9.ply"]
        raise RuntimeError
    others = [".notes-ab12cd_9.png", ".loss.png", "loss-ab12cd_9.png"]
    for name in (*left, *others):
        (tmp_path / name).write_text("x")
    make_output_dir(tmp_path, scene="s", prompt="p")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("way", ["plain", "link", "relative", "folder"])
def test_a_folder_that_holds_the_input_is_refused(way, tmp_path, monkeypatch):
    scene = tmp_path / "run" / "edited.ply"
    scene.parent.mkdir()
    save_gaussians(random_gaussians(5), scene)
    folder, given = scene.parent, scene
    if way == "link":
        folder = tmp_path / "link"
        folder.symlink_to(scene.parent)
    elif way == "relative":
        monkeypatch.chdir(tmp_path)
        given = Path("run/../run/edited.ply")
    elif way == "folder":
        given = scene.parent
    with pytest.raises(UserError, match=r"output_dir .* holds the input .*; choose another") as error:
        make_output_dir(folder, scene="s", prompt="p", inputs=[None, given])
    assert str(folder) in str(error.value) and str(given) in str(error.value)
    assert [path.name for path in scene.parent.iterdir()] == ["edited.ply"]


def test_an_input_that_no_result_overwrites_may_lie_beside_the_results(tmp_path):
    (tmp_path / "bust.ply").write_text("x")
    assert make_output_dir(tmp_path, scene="s", prompt="p", inputs=[tmp_path / "bust.ply"]) == tmp_path


@pytest.mark.parametrize("folder", ["x" * 300, "~no-such-user/x", "a\0b", "/proc/nowhere"])
def test_a_folder_that_cant_be_is_one_line(folder):
    with pytest.raises(UserError, match=r"output_dir .*; choose another folder") as error:
        make_output_dir(folder, scene="s", prompt="p")
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "prompt, place",
    [
        ("../../x", "x"),
        ("/etc/x", "etc/x"),
        ("a\nb", "a-b"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("é" * 400, "é" * 50),
        ("c:\\x", "c-/x"),
    ],
)
def test_names_stay_inside_outputs(prompt, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_output_dir(None, scene="s", prompt=prompt)
    assert folder.parent == Path("outputs/s") / place and folder.is_dir()


def test_prompts_of_every_script_get_a_folder_of_their_own():
    assert slug("A photo of a Clown!") == "a-photo-of-a-clown"
    assert slug("小丑 的照片") == "小丑-的照片" and slug("हिन्दी") == "हिन्दी" and slug("Émile") == "émile"
    assert slug("🤡") != slug("🎃") and len(slug("🤡")) == 8 == len(slug("")) and slug("🤡") == slug("🤡")
    assert slug("a" * 59 + " b") == "a" * 59


def test_messages_are_one_line_whatever_a_file_is_called(tmp_path):
    with pytest.raises(UserError) as error:
        load_image(tmp_path / "a\nb.png")
    assert "\n" not in str(error.value)


def test_a_picture_name_that_is_too_long_is_one_line():
    with pytest.raises(UserError, match="no such image"):
        load_image("x" * 300 + ".png")


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    with atomic_path(tmp_path / ("x" * 251 + ".txt")) as temporary:
        temporary.write_text("a")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_clearing_takes_the_manifest_first(tmp_path, monkeypatch):
    removed = []
    monkeypatch.setattr(os, "unlink", lambda path, *_, **__: removed.append(Path(path).name))
    clear(tmp_path)
    assert removed[0] == "run.json" and set(removed) == set(FILES)
