"""The studio without a page: edits, selections, history, and what goes wrong."""

import dataclasses
import shlex
import time
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.gaussians import TENSORS
from gs_ssd.scene.masks import File, Sphere
from gs_ssd.studio.frames import Look, camera_of, cropped
from gs_ssd.studio.picking import surface_point
from gs_ssd.studio.runner import PAUSED
from gs_ssd.studio.selection import Rectangle, turned_box
from gs_ssd.studio.timeline import Timeline
from tests.studio.small import SETTINGS, edited, prior, scene_file, workspace
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE, until


def same(a, b) -> bool:
    return len(a) == len(b) and all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A studio after an edit, for tests that leave it as it is."""
    return edited(tmp_path_factory.mktemp("finished"))


def test_an_edit_is_the_command_lines_own(tmp_path):
    from gs_ssd.session.config import compose, scene_edit

    studio = edited(tmp_path)
    words = [*studio.words, *studio.further, *SETTINGS.words()]
    again = scene_edit(compose(words), prior)
    list(again)
    result = again.finish().after
    assert same(studio.scene.gaussians, result)
    assert same(load_gaussians(studio.session / "01" / "edited.ply"), result)


def test_undo_and_redo_bring_back_the_very_scenes_and_their_selections(tmp_path):
    studio = workspace(tmp_path)
    first = studio.scene
    studio.selector.apply(Sphere((0, 0, 0), 0.5))
    studio.start(SETTINGS)
    studio.wait(PATIENCE)
    second = studio.scene
    assert not same(first.gaussians, second.gaussians)
    studio.undo()
    assert studio.scene is first
    assert studio.selection.count == int((first.gaussians.means.norm(dim=1) <= 0.5).sum())
    studio.redo()
    assert studio.scene is second
    with pytest.raises(UserError, match="no edit to redo"):
        studio.redo()


def test_what_is_not_selected_keeps_every_bit_through_edits_one_upon_the_other(tmp_path):
    studio = workspace(tmp_path)
    source = studio.scene.gaussians
    chosen = studio.selector.apply(Sphere((0, 0, 0), 0.6)).chosen
    for target in ("red", "grey red"):
        studio.start(dataclasses.replace(SETTINGS, target=target, strength=0.7))
        studio.wait(PATIENCE)
    assert len(studio.entries) == 2
    outside, after = source[~chosen], studio.scene.gaussians
    rows = {bytes(row) for row in after.means.numpy()}
    assert all(bytes(row) in rows for row in outside.means.numpy())
    kept = studio.scene.gaussians[~studio.scene.editable]
    assert same(kept, outside)


def test_a_new_edit_takes_the_place_of_one_that_was_undone(tmp_path):
    studio = edited(tmp_path)
    studio.undo()
    studio.start(dataclasses.replace(SETTINGS, seed=1))
    studio.wait(PATIENCE)
    assert [entry.settings.seed for entry in studio.entries] == [1]
    with pytest.raises(UserError, match="redo"):
        studio.redo()


def test_the_strength_runs_from_the_source_to_the_edit(tmp_path):
    studio = edited(tmp_path)
    full, source = studio.scene.gaussians, studio.entries[0].source.gaussians
    studio.set_strength(0.0)
    assert same(studio.scene.gaussians, source)
    studio.set_strength(0.5)
    assert len(studio.scene.editable) == len(studio.scene) == len(studio.selection.chosen)
    assert not same(studio.scene.gaussians, full)
    studio.set_strength(1.0)
    assert same(studio.scene.gaussians, full)
    with pytest.raises(UserError, match="strength"):
        studio.set_strength(2.0)


def test_pause_holds_the_steps_and_resume_lets_them_go_on(tmp_path):
    studio = workspace(tmp_path)
    studio.start(dataclasses.replace(SETTINGS, steps=5000))
    until(lambda: studio.status().step > 2)
    studio.pause()
    until(lambda: studio.runner.snapshot is not None)
    step = studio.status().step
    assert studio.status().state == PAUSED
    time.sleep(0.05)
    assert studio.status().step == step
    studio.resume()
    until(lambda: studio.status().step > step)
    studio.stop()
    assert studio.wait(PATIENCE)
    assert 0 < len(studio.entries[0].result.reports) < 5000


def test_a_paused_edit_can_be_stopped(tmp_path):
    studio = workspace(tmp_path)
    studio.start(dataclasses.replace(SETTINGS, steps=5000))
    until(lambda: studio.status().step > 2)
    studio.pause()
    studio.stop()
    assert studio.wait(PATIENCE) and len(studio.entries) == 1


def test_an_edit_started_twice_and_everything_that_a_running_one_forbids(tmp_path):
    studio = workspace(tmp_path)
    studio.start(dataclasses.replace(SETTINGS, steps=5000))
    for refused in (
        lambda: studio.start(SETTINGS),
        studio.undo,
        lambda: studio.set_strength(0.5),
        lambda: studio.open(["scene=face"]),
        lambda: studio.preview(SETTINGS, studio.scene.turn(1)),
    ):
        with pytest.raises(UserError, match="stop it before you"):
            refused()
    studio.close()
    assert not studio.status().running


def test_a_stop_before_the_first_step_changes_nothing(tmp_path):
    import threading

    ready = threading.Event()

    def slow():
        ready.wait(PATIENCE)
        return prior()

    studio = workspace(tmp_path)
    studio.prior._load = slow
    source = studio.scene
    studio.start(SETTINGS)
    studio.stop()
    ready.set()
    assert studio.wait(PATIENCE)
    assert studio.scene is source and not studio.entries
    assert "before the first step" in studio.messages[-1].text


def test_what_goes_wrong_later_is_one_line_and_nothing_is_lost(tmp_path):
    studio = edited(tmp_path)
    scene = studio.scene
    for settings, said in (
        (dataclasses.replace(SETTINGS, target="grey"), "nothing to edit"),
        (dataclasses.replace(SETTINGS, target=""), "prompt.target"),
        (dataclasses.replace(SETTINGS, source=""), "prompt.source"),
    ):
        try:
            studio.start(settings)
        except UserError as error:
            assert said in str(error)
        else:
            studio.wait(PATIENCE)
            assert said in studio.messages[-1].text
        assert studio.scene is scene and not studio.status().running
    with pytest.warns(UserWarning, match="doesn't know: kraken"):
        studio.start(dataclasses.replace(SETTINGS, target="red kraken"))
        studio.wait(PATIENCE)
    assert any("doesn't know: kraken" in message.text for message in studio.messages)
    assert all("\n" not in message.text for message in studio.messages)


def test_a_wrong_method_prior_or_number_is_refused(tmp_path):
    studio = workspace(tmp_path)
    for change in ({"method": "os.system"}, {"prior": "../folder"}, {"steps": -1}, {"strength": 9.0}):
        with pytest.raises(UserError):
            studio.start(dataclasses.replace(SETTINGS, **change))
    assert not studio.status().running


def test_an_empty_selection_is_refused_and_a_full_one_is_said(tmp_path):
    studio = workspace(tmp_path)
    studio.selector.nothing()
    with pytest.raises(UserError, match="selection is empty"):
        studio.start(SETTINGS)
    with pytest.raises(UserError, match="selection is empty"):
        studio.selector.grow(0.1)
    with pytest.raises(UserError, match="holds no Gaussian"):
        studio.selector.apply(Sphere((90, 0, 0), 0.1))
    studio.selector.everything()
    assert "nothing is protected" in studio.messages[-1].text


def test_another_scenes_selection_is_refused(tmp_path):
    studio = workspace(tmp_path)
    before = studio.selection
    np.save(tmp_path / "other.npy", np.ones(999, bool))
    with pytest.raises(UserError, match="another scene"):
        studio.selector.apply(File(tmp_path / "other.npy"))
    save_gaussians(random_gaussians(20, seed=9), tmp_path / "crop.ply")
    with pytest.raises(UserError, match="aren't in the scene"):
        studio.selector.apply(File(tmp_path / "crop.ply"))
    assert studio.selection is before


def test_selections_combine_and_are_undone(tmp_path):
    studio = workspace(tmp_path)
    norms = studio.scene.gaussians.means.norm(dim=1)
    inner, outer = norms <= 0.4, norms <= 0.8
    studio.selector.apply(Sphere((0, 0, 0), 0.8))
    assert torch.equal(studio.selector.apply(Sphere((0, 0, 0), 0.4), "subtract").chosen, outer & ~inner)
    assert torch.equal(studio.selector.invert().chosen, inner | ~outer)
    assert torch.equal(studio.selector.undo().chosen, outer & ~inner)
    assert torch.equal(studio.selector.undo().chosen, outer)
    assert torch.equal(studio.selector.apply(Sphere((0, 0, 0), 0.4), "intersect").chosen, inner)
    grown = studio.selector.grow(0.1).chosen
    assert bool((grown & inner).sum() == inner.sum()) and int(grown.sum()) > int(inner.sum())
    with pytest.raises(UserError, match="mode"):
        studio.selector.apply(Sphere((0, 0, 0), 0.4), "xor")


def test_a_turned_box_holds_what_its_gizmo_holds():
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec([0.4, -0.9, 0.3])
    x, y, z, w = turn.as_quat()
    center, sides = np.array([0.2, -0.1, 0.3]), np.array([1.0, 0.4, 0.7])
    gaussians = random_gaussians(2000)
    chosen = turned_box(center, sides, (w, x, y, z))(gaussians)
    own = turn.inv().apply(gaussians.means.double().numpy() - center)
    assert np.array_equal(chosen.numpy(), (np.abs(own) <= sides / 2).all(axis=1))


def test_a_click_finds_the_surface_and_misses_the_background(tmp_path):
    studio = workspace(tmp_path)
    camera = studio.scene.turn(1, size=200)[0]
    point = torch.tensor(surface_point(studio.scene, camera, 0.5, 0.5))
    assert point.norm() < 2.0
    seen = camera.viewmats[0, :3, :3] @ point + camera.viewmats[0, :3, 3]
    pixel = camera.Ks[0] @ seen / seen[2]
    assert pixel[:2].sub(100).abs().max() < 0.5
    with pytest.raises(UserError, match="nothing under the mouse"):
        surface_point(studio.scene, camera, 0.01, 0.01)


def test_a_rectangle_takes_what_the_camera_shows_there_and_not_what_lies_behind(tmp_path):
    studio = workspace(tmp_path)
    camera = studio.scene.turn(1, size=64)[0]
    front = studio.selector.apply(Rectangle(camera, (0.0, 0.0), (0.5, 1.0))).chosen
    means = studio.scene.gaussians.means
    across = means @ camera.viewmats[0, 0, :3] + camera.viewmats[0, 0, 3]
    assert across[front].mean() < 0 and int(front.sum()) < int((across < 0).sum())


def test_edits_that_were_saved_are_done_again(tmp_path):
    studio = workspace(tmp_path)
    studio.selector.apply(Sphere((0, 0, 0), 0.6))
    studio.start(SETTINGS)
    studio.wait(PATIENCE)
    studio.set_strength(0.5)
    studio.start(dataclasses.replace(SETTINGS, seed=3))
    studio.wait(PATIENCE)
    archive = studio.save_history()
    assert archive.parent == studio.session
    commands = studio.commands()
    assert [line.split()[1] for line in commands] == ["edit", "blend", "edit"]
    again = workspace(tmp_path)
    again.replay(archive)
    assert same(again.scene.gaussians, studio.scene.gaussians)
    assert again.commands() == commands


def test_an_edit_that_was_stopped_is_stopped_there_again(tmp_path):
    studio = workspace(tmp_path)
    studio.start(dataclasses.replace(SETTINGS, steps=5000))
    until(lambda: studio.status().step > 2)
    studio.stop()
    assert studio.wait(PATIENCE)
    done = len(studio.entries[0].result.reports)
    assert f"stop_after={done}" in studio.commands()[0]
    again = workspace(tmp_path)
    with pytest.warns(UserWarning, match="nothing is protected"):
        again.replay(studio.save_history())
    assert len(again.entries[0].result.reports) == done
    assert same(again.scene.gaussians, studio.scene.gaussians)


@pytest.mark.slow
def test_the_printed_commands_come_to_the_same_bytes(tmp_path, monkeypatch):
    from gs_ssd.cli.main import main
    from gs_ssd.studio.workspace import Workspace
    from tests.cli.test_chain import FAST

    fast = [word for word in FAST if not word.startswith(("diffusion=", "device=", "steps="))]
    file = scene_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [f"scene={file.name}", "scene.views.count=8"]
    studio = Workspace(words, folder=tmp_path / "sessions", further=fast, device="cpu")
    asked = dataclasses.replace(SETTINGS, prior="tiny", strength=0.5)
    studio.selector.apply(Sphere((0, 0, 0), 0.6))
    studio.start(asked)
    assert studio.wait(PATIENCE)
    studio.selector.apply(Sphere((0, 0.2, 0), 0.5))
    studio.start(dataclasses.replace(asked, target="blue", strength=1.0, seed=3, stop_after=4))
    assert studio.wait(PATIENCE)
    assert len(studio.entries) == 2, studio.messages
    place = tmp_path / "again"
    with zipfile.ZipFile(studio.save_history()) as archive:
        archive.extractall(place)
    monkeypatch.chdir(place)
    for line in studio.commands():
        assert main(shlex.split(line)[1:]) == 0, line
    for name in ("01/edited.ply", "02/edited.ply"):
        assert (place / name).read_bytes() == (studio.session / name).read_bytes()
    assert same(load_gaussians(place / "02" / "edited.ply"), studio.scene.gaussians)


def test_a_strangers_archive_unpacks_nothing_but_a_history(tmp_path):
    studio, path = workspace(tmp_path), tmp_path / "strange.zip"
    for names in (["../history.json"], ["01/selection.npy"], ["history.json/x"]):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")
        with pytest.raises(UserError, match="no history"):
            studio.replay(path)
    path.write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="no history"):
        studio.replay(path)
    assert not studio.entries


@pytest.mark.parametrize(
    "change",
    [
        {"selection": "../../secret.npy"},
        {"target": 5},
        {"method": "vsd'; rm"},
        {"seed": "x"},
        {"strength": float("inf")},
        {"stop_after": -1},
    ],
)
def test_a_strangers_history_reads_plain_values_from_its_own_folder(finished, change):
    import json

    path = finished.session / "history.json"
    own = path.read_text()
    content = json.loads(own)
    content["edits"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(UserError):
        finished.replay(path)
    path.write_text(own)
    assert len(finished.entries) == 1


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".spz", ".html"])
def test_every_export_lies_in_the_sessions_folder_and_can_be_opened(finished, suffix):
    studio = finished
    lossy = pytest.warns(UserWarning, match="no view-dependent colour")
    with lossy if suffix == ".splat" else nullcontext():
        path = studio.export(suffix)
    assert path.parent == studio.session.resolve() and path.name.endswith(suffix)
    if suffix == ".html":
        text = path.read_text()
        assert "viewer(" in text and "http://" not in text.replace("http://www.w3.org", "")
    else:
        assert len(load_gaussians(path)) == len(studio.scene)
    with pytest.raises(UserError, match="format"):
        studio.export(".exe")


def test_no_name_leads_out_of_the_sessions_folder(tmp_path):
    from gs_ssd.studio.exports import inside

    for name in ("../x", "/etc/passwd", "a/b", "..", "x\0y", ""):
        with pytest.raises(UserError, match="outside"):
            inside(tmp_path, name)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="outside"):
        inside(tmp_path, "link")


def test_the_preview_changes_the_selection_and_nothing_else(tmp_path):
    studio = workspace(tmp_path)
    camera = studio.scene.turn(1, size=100)[0]
    before, after = studio.preview(SETTINGS, camera, steps=20)
    assert before.shape == (32, 32, 3) and np.abs(before.astype(int) - after).max() > 20
    with pytest.warns(UserWarning, match="nothing is protected"):
        studio.selector.apply(Sphere((5, 5, 5), 1e9))
    studio.selector.nothing()
    before, after = studio.preview(SETTINGS, camera, steps=3)
    assert np.array_equal(before, after)


def test_a_film_follows_the_keyframes(tmp_path):
    studio = workspace(tmp_path)
    studio.add_keyframe((0, 0, 4), (0, 0, 0), 45)
    with pytest.raises(UserError, match="2 keyframes"):
        studio.film(seconds=0.2, width=32, height=32)
    studio.add_keyframe((4, 0, 0), (0, 0, 0), 45)
    assert studio.film(seconds=0.2, width=32, height=32).stat().st_size > 500
    studio.clear_keyframes()
    assert studio.film(seconds=0.2, width=32, height=32).suffix == ".mp4"


def test_no_other_process_writes_into_the_folder_of_an_open_session(tmp_path):
    import subprocess
    import sys

    studio = edited(tmp_path)
    script = "import sys; from gs_ssd.results.hold import Hold; Hold().take(sys.argv[1])"
    for folder in (studio.session, studio.session / "01"):
        taken = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
        assert taken.returncode == 1 and "writes there" in taken.stderr
    old = studio.session
    studio.open_file(scene_file(tmp_path, 50, seed=2))
    assert subprocess.run([sys.executable, "-c", script, str(old / "01")]).returncode == 0
    studio.close()
    assert subprocess.run([sys.executable, "-c", script, str(studio.session)]).returncode == 0


def test_only_one_long_thing_goes_on_at_a_time(tmp_path):
    studio = workspace(tmp_path)
    with studio.working("rendering the video"), pytest.raises(UserError, match="still rendering the video"):
        studio.export(".ply")
    assert studio.export(".ply").exists()


def test_another_scene_begins_a_new_session_and_leaves_the_old_files(tmp_path):
    studio = edited(tmp_path)
    old = studio.session
    studio.open_file(scene_file(tmp_path, 50, seed=2))
    assert len(studio.scene) == 50 and studio.session != old and not studio.entries
    assert (old / "01" / "edited.ply").exists()
    with pytest.raises(UserError, match="no such file"):
        studio.open_file(tmp_path / "missing.ply")
    assert len(studio.scene) == 50
    with pytest.raises(UserError, match="made from nothing"):
        studio.open(["scene=blob"])


def test_a_browsers_camera_sees_what_ours_sees(tmp_path):
    from scipy.spatial.transform import Rotation

    studio = workspace(tmp_path)
    ours = studio.scene.turn(3, size=80)[1]
    x, y, z, w = Rotation.from_matrix(ours.viewmats[0, :3, :3].numpy().T).as_quat()
    fov = 2 * np.arctan(40 / float(ours.Ks[0, 0, 0]))
    theirs = camera_of(ours.positions[0].tolist(), (w, x, y, z), fov, 80, 80)
    assert torch.allclose(theirs.viewmats, ours.viewmats, atol=1e-5)
    assert torch.allclose(theirs.Ks, ours.Ks, atol=1e-3)


def test_the_split_shows_both_and_the_tint_only_the_selection(tmp_path):
    studio = edited(tmp_path)
    camera = studio.scene.turn(1, size=64)[0]
    edit, before, split = (studio.picture(camera, Look(show)) for show in ("edit", "before", "split"))
    assert np.abs(edit.astype(int) - before).max() > 10
    assert np.abs(split[:, :30].astype(int) - before[:, :30]).max() <= 1
    assert np.abs(split[:, 34:].astype(int) - edit[:, 34:]).max() <= 1
    studio.selector.apply(Sphere((0, 0, 0), 0.3))
    assert np.abs(studio.picture(camera, Look(tint=True)).astype(int) - edit).max() > 20
    part = cropped(camera, 10, 30)
    assert np.abs(studio.picture(part, Look()).astype(int) - edit[:, 10:30]).max() <= 1


def test_pictures_keep_no_copies_of_scenes_that_are_gone(tmp_path):
    studio = edited(tmp_path)
    camera = studio.scene.turn(1, size=16)[0]
    for radius in np.linspace(0.3, 0.9, 12):
        studio.selector.apply(Sphere((0, 0, 0), float(radius)))
        studio.picture(camera, Look(tint=True))
    assert len(studio.frames._kept) <= 3


def test_a_running_edit_is_shown_as_it_was_after_a_step(tmp_path):
    studio = workspace(tmp_path)
    camera = studio.scene.turn(1, size=32)[0]
    source = studio.picture(camera, Look())
    studio.start(dataclasses.replace(SETTINGS, steps=5000))
    until(lambda: studio.status().step > 20)
    assert studio.runner.snapshot is None  # nobody asked
    studio.runner.want_snapshot()
    until(lambda: studio.runner.snapshot is not None)
    assert not np.array_equal(studio.picture(camera, Look()), source)
    assert np.array_equal(studio.picture(camera, Look("before")), source)
    studio.close()
    assert studio.runner.snapshot is None


def test_a_timeline_forgets_the_oldest_beyond_its_limit():
    line = Timeline(0, what="thing", most=3)
    for value in range(1, 6):
        line.push(value)
    assert [line.undo() for _ in range(3)] == [4, 3, 2]
    with pytest.raises(UserError, match="no thing to undo"):
        line.undo()
    line.push(9)
    assert line.now == 9 and line.ahead == 0


def test_parts_follow_the_edits_of_a_sample_scene(tmp_path):
    from gs_ssd.studio.workspace import Workspace

    studio = Workspace(["scene=elder"], folder=tmp_path, device="cpu")
    hair = studio.select_part("hair").count
    assert 0 < hair < len(studio.scene)
    assert studio.selector.apply(File(_saved(studio, tmp_path))).count == hair


def _saved(studio, folder):
    np.save(folder / "hair.npy", studio.selection.chosen.numpy())
    return folder / "hair.npy"
