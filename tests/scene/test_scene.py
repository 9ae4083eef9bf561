"""A scene with a selection, and what an edit of it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.edit.densify import Densifier
from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.scene import save_gaussians
from gs_ssd.scene.masks import HalfSpace, Pictures, Prior, Sphere
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.prompts import Prompts
from tests.scene.layouts import inria_columns, ply_bytes
from tests.synthetic import random_gaussians

SIZE, COUNT = 32, 300


def prior() -> GaussianPrior:
    """Two prompts: grey pictures and red ones."""
    grey = torch.full((3, SIZE, SIZE), 0.5)
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1).expand(3, SIZE, SIZE)
    return GaussianPrior({"": grey, "grey": grey, "red": red}, std=0.3)


def file(folder, degree: int):
    columns = inria_columns(random_gaussians(COUNT, sh_degree=degree))
    columns |= {
        "filter_3D": np.linspace(0.01, 0.1, COUNT, dtype=np.float32),
        "nx": np.ones(COUNT, np.float32),
    }
    path = folder / "in.ply"
    path.write_bytes(ply_bytes(columns))
    return path


def rows(data: bytes, count: int) -> list[bytes]:
    start = data.index(b"end_header\n") + 11
    size = (len(data) - start) // count
    return [data[start + i * size : start + (i + 1) * size] for i in range(count)]


@pytest.mark.parametrize("degree", [0, 3])
def test_an_edit_leaves_what_is_outside_byte_identical(tmp_path, degree):
    """From file to file, densification on, with columns that nothing here knows."""
    path = file(tmp_path, degree)
    scene = Scene.load(path, mask=HalfSpace([0, 0, 0], [1, 0, 0]), views={"count": 6})
    densifier = Densifier(every=4, start=4, stop=20, percent=0.3, split_size=0.02, min_opacity=0.3)
    edit = SceneEdit(scene, Prompts("grey", "red"), prior=prior(), densifier=densifier, num_steps=20)
    for _ in edit:
        pass
    after = edit.gaussians
    save_gaussians(after, tmp_path / "edited.ply")
    before, edited = rows(path.read_bytes(), COUNT), rows((tmp_path / "edited.ply").read_bytes(), len(after))
    assert len(after) != COUNT
    outside = [row for row, chosen in zip(before, scene.editable) if not chosen]
    kept = [row for row in edited if row in set(outside)]
    assert kept == outside
    names = (tmp_path / "edited.ply").read_bytes().split(b"end_header")[0]
    assert b"property float filter_3D" in names and b"property float nx" in names
    lineage = set(after.extra.column("filter_3D").tolist())
    assert lineage <= set(scene.gaussians.extra.column("filter_3D").tolist())


def test_a_selection_can_be_made_when_the_scene_is_there(tmp_path):
    scene = Scene.load(file(tmp_path, 0))
    ball = scene.select(Sphere([0, 0, 0], 0.5))
    assert torch.equal(ball.editable, scene.gaussians.means.norm(dim=1) <= 0.5)
    assert scene.editable.all() and ball.gaussians is scene.gaussians and ball.digest == scene.digest
    mask = Prior(views=2, noises=1, ratios=[0.5], threshold=0.01)
    with pytest.warns(UserWarning, match="nothing is protected"):
        looked = scene.select(mask, renderer=render, prior=prior(), source="grey", target="red")
    assert looked.editable.any()


def test_masks_that_look_say_what_they_miss(tmp_path):
    path = file(tmp_path, 0)
    with pytest.raises(UserError, match="mask=prior needs a renderer"):
        Scene.load(path, mask=Prior())
    with pytest.raises(UserError, match="mask=pictures needs the cameras that its pictures were taken with"):
        Scene.load(path).select(Pictures("masks"), renderer=render)
