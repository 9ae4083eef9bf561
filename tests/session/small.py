"""A small scene with a closed-form prior: an edit of some milliseconds per step, and the same in every process."""

from __future__ import annotations

import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.densify import Densifier
from gs_ssd.guidance import SSD
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.prompts import Prompts
from tests.synthetic import random_gaussians

SIZE = 32
PROMPTS = Prompts("grey", "red")


def prior() -> GaussianPrior:
    """Two prompts: grey pictures and red ones."""
    grey = torch.full((3, SIZE, SIZE), 0.5)
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1).expand(3, SIZE, SIZE)
    return GaussianPrior({"": grey, "grey": grey, "red": red}, std=0.3)


def scene(count: int = 300) -> Scene:
    return Scene.of(random_gaussians(count), name="small", views={"count": 8})


def edit(num_steps: int = 20, **settings) -> SceneEdit:
    own = {
        "guidance": SSD(),
        "anchors": Anchors(),
        "densifier": Densifier(every=4, start=4, stop=num_steps, percent=0.1, split_size=0.001),
    }
    return SceneEdit(scene(), PROMPTS, prior=prior(), num_steps=num_steps, **own | settings)
