"""`mask=` at the front door: what an edit leaves alone byte for byte, the preview, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from gs_ssd.cli import edit
from gs_ssd.results.report import READINGS
from gs_ssd.scene import load_gaussians, orbit, save_gaussians
from gs_ssd.scene.datasets import save_cameras
from gs_ssd.scene.frame import find_frame
from gs_ssd.scene.masks import Sphere
from tests.cli.test_chain import FAST
from tests.scene.masks.test_masks import split_rows
from tests.synthetic import random_gaussians

PROMPTS = ["prompt.source=a man", "prompt.target=a clown"]
BALL = ["mask=sphere", "mask.center=[0.2,0,0]", "mask.radius=0.7"]


@pytest.fixture
def ball(tmp_path):
    save_gaussians(random_gaussians(300, sh_degree=3), tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


@pytest.mark.slow
@pytest.mark.parametrize("degree", [0, 3])
def test_an_edit_leaves_the_bytes_outside_its_selection(degree, tmp_path):
    """With densification on: the rows outside stand where they stood among themselves, the added ones are the last."""
    path, out = tmp_path / "ball.ply", tmp_path / "out"
    save_gaussians(random_gaussians(300, sh_degree=degree), path)
    typed = [f"scene={path}", *PROMPTS, *BALL, f"output_dir={out}", "densify.min_opacity=0.3"]
    assert edit.main([*FAST, *typed]) == 0
    chosen = Sphere([0.2, 0, 0], 0.7)(load_gaussians(path)).numpy()
    origin = np.load(out / "origin.npy")
    _, before = split_rows(path.read_bytes(), 300)
    _, after = split_rows((out / "edited.ply").read_bytes(), len(origin))
    kept = [row for row, source in zip(after, origin) if not chosen[source]]
    assert kept == [row for row, inside in zip(before, chosen) if not inside]
    loaded = int(np.argmax(np.diff(origin) <= 0)) + 1  # rows in the file's order, then those that were added
    assert loaded < len(origin) and chosen[origin[loaded:]].all()
    assert any(row != before[source] for row, source in zip(after, origin) if chosen[source])


def test_a_preview_shows_the_selection_and_edits_nothing(ball, tmp_path, capsys):
    out = tmp_path / "out"
    assert edit.main([*FAST, f"scene={ball}", *PROMPTS, *BALL, f"output_dir={out}", "preview=selection"]) == 0
    count = int(Sphere([0.2, 0, 0], 0.7)(load_gaussians(ball)).sum())
    assert f"{count} of 300 Gaussians may change" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["selection.png"]
    with Image.open(out / "selection.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    assert pixels.shape[1] > 4 * 200  # four sides
    assert (pixels[..., 0] - pixels[..., 2] > 120).mean() > 0.02  # orange


@pytest.mark.parametrize(
    "typed, problem",
    [
        (["mask=sphere", "mask.center=[90,0,0]", "mask.radius=1"], "holds no Gaussian; check it against"),
        (["mask={}/none.npy"], "holds no Gaussian; is it this scene's?"),
        (
            ["mask={}/far.npy"],
            "names the Gaussians 250 to 349, the scene has 0 to 299; it belongs to another scene",
        ),
        (
            ["mask={}/short.npy"],
            "says yes or no to 20 Gaussians, the scene has 300; it belongs to another scene",
        ),
        (["mask={}/masks", "scene.cameras={}/cameras.json"], "is 32 x 20 pixels, the cameras take 32 x 32"),
        (["mask={}/masks"], "needs the cameras that its pictures were taken with; give scene.cameras="),
        (
            ["mask=text", "mask.words=hair", "mask.model={}/nothing"],
            "isn't here (no such folder); give mask.model=",
        ),
        (["mask=sphere", "mask.center=[0,0,0]"], "mask.radius is missing"),
    ],
)
def test_what_is_no_selection_of_this_scene_is_one_line(typed, problem, ball, tmp_path, capsys):
    np.save(tmp_path / "none.npy", np.zeros(300, bool))
    np.save(tmp_path / "far.npy", np.arange(250, 350))
    np.save(tmp_path / "short.npy", np.ones(20, bool))
    (tmp_path / "masks").mkdir()
    save_cameras(orbit(find_frame(load_gaussians(ball)), 2, width=32, height=32), tmp_path / "cameras.json")
    for index in range(2):
        Image.new("L", (32, 20), 255).save(tmp_path / "masks" / f"{index}.png")
    mask = [line.format(tmp_path) for line in typed]
    assert edit.main([*FAST, f"scene={ball}", *PROMPTS, f"output_dir={tmp_path / 'out'}", *mask]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert said.startswith("error: ") and problem in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_selection_of_everything_is_one_line_and_edits(ball, tmp_path, capsys):
    np.save(tmp_path / "all.npy", np.ones(300, bool))
    typed = [f"scene={ball}", *PROMPTS, f"mask={tmp_path / 'all.npy'}", f"output_dir={tmp_path / 'out'}"]
    assert edit.main([*FAST, *typed]) == 0
    assert "holds all 300 Gaussians, so nothing is protected; is it this scene's?" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["steps_done"] == 6
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name.removesuffix("_by_part") for name in metrics} <= set(READINGS)  # the report explains each
