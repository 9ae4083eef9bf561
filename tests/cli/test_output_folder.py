"""Where an edit writes, at its front door: refused before any work, never over the input, never two runs mixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import gs_ssd
from gs_ssd.cli import edit, image
from gs_ssd.cli.main import main
from gs_ssd.files import sha256
from gs_ssd.results.folder import FILES
from gs_ssd.scene import save_gaussians
from tests.synthetic import random_gaussians

ROOT = Path(__file__).parents[2]
FAST = [
    *("diffusion=tiny", "device=cpu", "resolution=64", "steps=2", "metrics.views=2", "metrics.size=32"),
    *("render.frames=4", "render.size=32", "render.sheet_size=32", "render.sheet_views=2"),
    *("prompt.source=a photo", "prompt.target=a drawing", "no_edit_guard=false"),
]


@pytest.fixture
def scene(tmp_path) -> Path:
    path = tmp_path / "before" / "edited.ply"
    path.parent.mkdir()
    save_gaussians(random_gaussians(200), path)
    return path


def failure(capsys, *arguments: str) -> str:
    assert edit.main([*FAST, *arguments]) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ") and not any("error" in line for line in before)
    return last


def test_the_input_is_never_overwritten(scene, capsys):
    kept = scene.read_bytes()
    said = failure(capsys, f"scene={scene}", f"output_dir={scene.parent}")
    assert str(scene) in said and str(scene.parent) in said
    assert scene.read_bytes() == kept and [path.name for path in scene.parent.iterdir()] == ["edited.ply"]


def test_the_picture_is_never_overwritten(tmp_path, capsys):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "after.png")
    kept = (tmp_path / "after.png").read_bytes()
    words = ["prompt.source=a photo", "prompt.target=a drawing", "diffusion=tiny"]
    assert image.main([f"image={tmp_path / 'after.png'}", f"output_dir={tmp_path}", *words]) == 2
    assert "holds the input" in capsys.readouterr().err
    assert (tmp_path / "after.png").read_bytes() == kept and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("broken", ["optimizer.betas=x", "render.size=1", "render.fps=-3", "render.frames=0"])
def test_a_run_that_fails_at_the_start_leaves_the_older_one(scene, broken, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in FILES:
        (out / name).write_text("old")
    failure(capsys, f"scene={scene}", f"output_dir={out}", broken)
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(FILES, "old")


@pytest.mark.slow
def test_a_sweep_ends_with_a_page_that_links_its_reports(scene, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "--multirun",
        f"scene={scene}",
        *FAST,
        "seed=1,2",
        "output_dir=out",
    ]
    monkeypatch.setattr("sys.argv", ["gs-ssd", "edit", *arguments])
    assert edit.main(arguments) == 0
    assert "sweep    out/index.html: 2 runs" in capfd.readouterr().out
    page = Path("out/index.html").read_text()
    assert 'href="0/report.html"' in page and 'href="1/report.html"' in page and "seed=1" in page
    command = json.loads(Path("out/1/run.json").read_text())["command"]  # repeats this run alone
    assert command[:2] == ["gs-ssd", "edit"] and "--multirun" not in command
    assert [word for word in command if word.startswith(("seed", "output_dir"))] == [
        "seed=2",
        "output_dir=out/1",
    ]


def test_the_digest_is_that_of_the_scene_that_was_loaded(scene, tmp_path):
    digest = sha256(scene)
    loaded = gs_ssd.Scene.load(scene)
    scene.write_bytes(b"replaced while the edit ran")
    os.remove(scene)
    prompts = gs_ssd.Prompts("a photo", "a drawing")
    session = gs_ssd.SceneEdit(loaded, prompts, prior=gs_ssd.load_prior("tiny"), num_steps=1, resolution=64)
    for _ in session:
        pass
    result = session.finish()
    result.save(tmp_path / "out", videos=result.videos(frames=4, size=32, sheet_size=32, sheet_views=2))
    assert json.loads((tmp_path / "out" / "run.json").read_text())["input"]["sha256"] == digest


DOORS = {
    "edit": ["scene=face", "prompt=clown", "device=cpu", "output_dir={}"],
    "image": ["image=nowhere.png", "prompt.source=a", "prompt.target=b", "device=cpu", "output_dir={}"],
    "generate": ["prompt.target=a clown", "device=cpu", "output_dir={}"],
    "evaluate": ["output_dir={}"],
    "studio": ["scene=face", "output_dir={}"],
    "render": ["scene=nowhere.ply", "output={}/turn.mp4"],
    "convert": ["nowhere.ply", "{}/scene.ply"],
}
USES_TORCH = ("render", "convert")
ANSWER = "import sys; from gs_ssd.cli.main import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"


@pytest.mark.parametrize("door", DOORS)
def test_a_folder_that_cant_be_written_is_said_before_any_work(door, tmp_path, capsys):
    """Before torch is imported, where the door can do without, and before what is to be read is looked for."""
    (tmp_path / "a file").touch()
    typed = [door, *(word.format(tmp_path / "a file" / "below") for word in DOORS[door])]
    if door in USES_TORCH:
        code, said = main(typed), capsys.readouterr().err
    else:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        answer = [sys.executable, "-c", ANSWER, *typed]
        done = subprocess.run(answer, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.stdout.split()[1] == "False", "torch was imported"
        code, said = int(done.stdout.split()[0]), done.stderr
    (line,) = said.splitlines()
    assert code == 2 and line.startswith("error: ") and f"{tmp_path / 'a file'} is a file; choose" in line
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
