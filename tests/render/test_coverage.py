"""The share of a pixel that some Gaussians make up."""

import torch

from gs_ssd.render import render
from gs_ssd.render.coverage import coverage
from gs_ssd.scene import Cameras, find_frame, orbit
from tests.synthetic import random_gaussians


def test_the_parts_of_a_scene_make_up_its_alpha():
    scene = random_gaussians(300)
    cameras = orbit(find_frame(scene), 3, width=24, height=20)
    chosen = torch.arange(len(scene)) % 3 == 0
    parts = coverage(scene, chosen, cameras) + coverage(scene, ~chosen, cameras)
    torch.testing.assert_close(parts, render(scene, cameras).alpha[..., 0], atol=1e-4, rtol=0)


def test_what_lies_behind_is_hidden():
    """An opaque ball behind another one: from the front it makes up nothing, from the back everything."""
    scene = random_gaussians(2, sh_degree=0)
    scene.means[:] = torch.tensor([[0.0, 0, 1], [0, 0, -1]])
    scene.scales[:] = -1.0
    scene.opacities[:] = 12.0
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[:, 2, 3] = 5
    viewmats[0, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1]))  # looks from +z
    Ks = torch.tensor([[10.0, 0, 5.5], [0, 10, 5.5], [0, 0, 1]]).repeat(2, 1, 1)
    shares = coverage(scene, torch.tensor([False, True]), Cameras(viewmats, Ks, 11, 11))[:, 5, 5]
    assert shares[0] < 0.01 and shares[1] > 0.99
