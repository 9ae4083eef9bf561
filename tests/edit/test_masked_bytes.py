"""What an edit may not touch is the input's to the byte in the exported file, on scenes of every kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_ssd.assets import DATA
from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.trainable import LearningRates
from gs_ssd.guidance import SSD
from gs_ssd.scene.formats import load_gaussians, save_gaussians
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from tests.session import small
from tests.synthetic import random_gaussians

SCANS = Path(__file__).parents[3] / "shared" / "scenes"
SAMPLES = ["face", "elder", "woman"]


def vertices(path: Path, count: int) -> np.ndarray:
    """The rows of a .ply [N] as opaque bytes."""
    body = path.read_bytes().split(b"end_header\n", 1)[1]
    return np.frombuffer(body, np.dtype((np.void, len(body) // count)))


def check(gaussians: Gaussians, folder: Path, share: float = 0.2, prunes: bool = True) -> SceneEdit:
    """An edit that grows Gaussians, and removes some where it `prunes`."""
    save_gaussians(gaussians, folder / "in.ply")
    before = load_gaussians(folder / "in.ply")
    distance = (before.means - before.means.median(dim=0).values).norm(dim=-1)
    scene = Scene.of(before, views={"count": 4})
    scene = replace(scene, editable=distance <= distance.quantile(share))
    edit = SceneEdit(
        scene,
        small.PROMPTS,
        prior=small.prior(),
        guidance=SSD(),
        rates=LearningRates(opacities=1.0),
        densifier=Densifier(every=3, start=3, stop=9, percent=0.2, split_size=0.002, min_opacity=0.1),
        num_steps=9,
    )
    list(edit)
    result = edit.finish()
    save_gaussians(result.after, folder / "out.ply")
    rows_in = vertices(folder / "in.ply", len(before))
    rows_out = vertices(folder / "out.ply", len(result.after))
    new = int((edit.trainable.params["generation"] > 0).sum())
    gone = len(before) + new - len(result.after)
    assert new > 0 and (gone > 0) == prunes
    assert rows_out[~result.editable_after].tobytes() == rows_in[~scene.editable].tobytes()
    origin = result.origin.numpy()
    assert (np.diff(origin[:-new]) > 0).all()  # loaded ones in their order, new ones behind them
    assert scene.editable[result.origin].equal(result.editable_after)
    moved = rows_out[:-new] != rows_in[origin[:-new]]
    assert moved[result.editable_after[:-new].numpy()].any()
    return edit


@pytest.mark.parametrize("degree", [0, 3])
def test_of_random_gaussians(tmp_path, degree):
    check(random_gaussians(500, sh_degree=degree), tmp_path)


@pytest.mark.parametrize("name", SAMPLES)
def test_of_the_sample_scenes(tmp_path, name):
    check(load_gaussians(DATA / "scenes" / f"{name}.ply"), tmp_path)


def test_of_an_antialiased_scene(tmp_path):
    face = load_gaussians(DATA / "scenes" / "face.ply")
    edit = check(replace(face, antialiased=True), tmp_path)
    assert edit.gaussians.antialiased
    assert edit.renderer.keywords["rasterize_mode"] == "antialiased"


@pytest.mark.parametrize("name", ["plant", "demosthenes_100k", "demosthenes_10k", "koala_10k"])
def test_of_real_scans(tmp_path, name):
    if not (SCANS / f"{name}.splat").exists():
        pytest.skip("the scans are not here")
    # the bust's 100,000 are so opaque that in nine steps none becomes transparent
    check(load_gaussians(SCANS / f"{name}.splat"), tmp_path, prunes=name != "demosthenes_100k")


def test_densification_never_removes_everything_editable():
    """It says so, and steps go on; the rest stays as it was."""
    scene = Scene.of(random_gaussians(300), views={"count": 4})
    scene = replace(scene, editable=torch.arange(300) < 20)
    scene.gaussians.opacities[:20] = -9.0
    edit = small.edit(12)
    edit = SceneEdit(
        scene,
        small.PROMPTS,
        prior=small.prior(),
        guidance=SSD(),
        anchors=edit.settings["anchors"],
        densifier=edit.settings["densifier"],
        num_steps=12,
    )
    with pytest.warns(UserWarning, match="would remove all 20 Gaussians that may change"):
        assert [report.num_gaussians for report in edit][-1] == 300
    assert torch.equal(edit.gaussians.means[20:], scene.gaussians.means[20:])
