"""View-consistent noise: white in each view, the same for the same surface in different views."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.edit.noise import ConsistentNoise, first_seen, unproject
from gs_ssd.render import render
from gs_ssd.scene import find_frame, orbit
from tests.session import small
from tests.synthetic import random_gaussians

SHAPE = torch.Size([1, 4, 16, 16])


@pytest.fixture(scope="module")
def scene():
    """A ball of many opaque Gaussians."""
    gaussians = random_gaussians(4000)
    gaussians.means = torch.nn.functional.normalize(gaussians.means, dim=-1)
    gaussians.scales = torch.full_like(gaussians.scales, -2.6)
    gaussians.opacities = torch.full_like(gaussians.opacities, 6.0)
    return gaussians


def cameras(scene, *degrees: float):
    frame = find_frame(scene)
    views = [orbit(frame, 1, width=128, height=128, azimuth_degrees=(a, a + 1)) for a in degrees]
    views[0].viewmats = torch.cat([v.viewmats for v in views])
    views[0].Ks = torch.cat([v.Ks for v in views])
    return views[0]


def test_each_view_is_white_and_of_unit_variance(scene):
    """Over many tables: means 0, variances 1, no two cells correlate. 400 draws of 1,024 numbers."""
    views, shape = cameras(scene, 20.0), torch.Size([1, 1, 16, 16])
    draws = []
    for seed in range(400):
        noise = ConsistentNoise()
        draws.append(noise(scene, views, render, shape, torch.Generator().manual_seed(seed)).flatten())
    x = torch.stack(draws)
    assert x.mean().abs() < 4 / (x.numel() ** 0.5)
    assert (x.var(dim=0) - 1).abs().max() < 5 * (2 / 400) ** 0.5
    correlations = torch.corrcoef(x.T).fill_diagonal_(0)
    assert correlations.abs().max() < 6 / 400**0.5  # the largest of 32,640 pairs
    assert correlations.pow(2).mean().sqrt() == pytest.approx(1 / 400**0.5, rel=0.05)


def test_the_same_surface_point_gets_correlated_noise_in_two_views(scene):
    noise, shape = ConsistentNoise(), torch.Size([2, 64, 16, 16])
    near, far = cameras(scene, 20.0, 20.4), cameras(scene, 20.0, 200.0)
    generator = torch.Generator().manual_seed(0)
    pair = noise(scene, near, render, shape, generator)

    def middle(x):
        return x[:, 5:11, 5:11].flatten()

    same = torch.corrcoef(torch.stack([middle(pair[0]), middle(pair[1])]))[0, 1]
    opposite = noise(scene, far, render, shape, generator)
    other = torch.corrcoef(torch.stack([middle(opposite[0]), middle(opposite[1])]))[0, 1]
    assert same > 0.5 and other.abs() < 0.1
    assert torch.equal(middle(opposite[0]), middle(pair[0]))  # and the next step sees it again
    assert not torch.equal(opposite[0, :, 0, 0], pair[0, :, 0, 0])  # where nothing is, it is fresh


def test_each_entry_counts_for_one_cell():
    entries, cells = first_seen(torch.tensor([5, 3, 5, 5, 9]), torch.tensor([0, 0, 1, 2, 2]))
    assert entries.tolist() == [3, 5, 9] and cells.tolist() == [0, 0, 2]


def test_points_return_to_the_pixels_they_came_from(scene):
    camera = cameras(scene, 35.0)
    depth = 2 + torch.rand(128, 128, generator=torch.Generator().manual_seed(0))
    points = unproject(depth, camera).reshape(-1, 3)
    seen = points @ camera.viewmats[0, :3, :3].T + camera.viewmats[0, :3, 3]
    pixels = seen @ camera.Ks[0].T
    x = (pixels[:, 0] / pixels[:, 2]).reshape(128, 128)
    torch.testing.assert_close(x[7], torch.arange(128) + 0.5, atol=1e-3, rtol=0)


def test_renewal_keeps_the_variance_and_forgets():
    noise = ConsistentNoise(renew=0.5)
    generator = torch.Generator().manual_seed(0)
    noise._renew(SHAPE, generator)
    first = noise.table
    noise._renew(SHAPE, generator)
    assert noise.table.var().item() == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(torch.stack([first.flatten(), noise.table.flatten()]))[0, 1].item()
    assert correlation == pytest.approx(0.5**0.5, abs=0.01)


def test_an_edit_with_it_resumes_to_the_same_bits(tmp_path):
    from gs_ssd.session.edit import SceneEdit

    whole = small.edit(6, noise=ConsistentNoise(renew=0.1))
    list(whole)
    first = small.edit(6, noise=ConsistentNoise(renew=0.1))
    for _ in range(3):
        next(first)
    second = SceneEdit.resume(first.save_checkpoint(tmp_path), scene=small.scene(), prior=small.prior())
    list(second)
    assert torch.equal(whole.gaussians.sh0, second.gaussians.sh0)
    plain = small.edit(6)
    list(plain)
    assert not torch.equal(plain.gaussians.sh0, whole.gaussians.sh0)
