"""Densification: who is chosen, what children inherit, what is pruned."""

import pytest
import torch

from gs_ssd.edit.densify import Densifier, top_percent
from gs_ssd.edit.trainable import TRAINABLE, TrainableScene
from gs_ssd.errors import UserError


def observed(scene: TrainableScene, norms: torch.Tensor, visible: torch.Tensor | None = None) -> dict:
    means2d = torch.zeros(1, len(norms), 2, requires_grad=True)
    means2d.grad = torch.stack([norms, torch.zeros_like(norms)], dim=-1)[None]
    seen = torch.ones(len(norms), dtype=torch.int32) if visible is None else visible.int()
    radii = seen[None, :, None].expand(1, -1, 2)
    return {"means2d": means2d, "radii": radii, "width": 64, "height": 32}


def test_top_percent_keeps_the_share_of_the_nonzero():
    values = torch.cat([torch.zeros(900), torch.arange(1, 101.0)])
    mask = top_percent(values, 0.05)
    assert mask.sum() == 5 and mask[-5:].all()
    assert not top_percent(torch.zeros(10), 0.5).any()


def test_statistic_is_the_mean_over_views_that_see_it(gaussians):
    scene, densifier = TrainableScene(gaussians), Densifier()
    norms = torch.ones(len(gaussians))
    hidden = torch.zeros(len(gaussians), dtype=torch.bool)
    densifier.observe(observed(scene, norms), scene.rows)
    densifier.observe(observed(scene, 3 * norms, visible=~hidden), scene.rows)
    densifier.observe(observed(scene, 100 * norms, visible=hidden), scene.rows)
    average = densifier.gradient_sum / densifier.visible_count
    torch.testing.assert_close(average, torch.full_like(average, 2 * 64 / 2))


def test_clones_small_and_splits_large(gaussians):
    gaussians.scales[:] = -7.0
    gaussians.scales[1] = 0.0
    scene, densifier = TrainableScene(gaussians, extent=10.0), Densifier(percent=2 / len(gaussians))
    parent = gaussians.means[0].clone()
    norms = torch.full((len(gaussians),), 1e-6)
    norms[:2] = 1.0
    densifier.observe(observed(scene, norms), scene.rows)
    added, removed = densifier.densify(scene)
    assert (added, removed) == (2, 0)
    new = scene.params["generation"] == 1
    assert new.sum() == 3  # one clone, two halves
    assert (scene.params["means"] == parent).all(dim=-1).sum() == 2  # the clone's parent stays
    assert (scene.params["scales"][new].amax(dim=-1) > -1).sum() == 2
    sizes = {len(scene.params[name]) for name in (*TRAINABLE, "origin", "generation")}
    assert sizes == {len(gaussians) + 2}


def test_only_editable_gaussians_are_touched(gaussians):
    gaussians.opacities[:] = -9.0  # nearly transparent, but for one
    gaussians.opacities[7] = 1.0
    editable = torch.zeros(len(gaussians), dtype=torch.bool)
    editable[:50] = True
    scene, densifier = TrainableScene(gaussians, editable=editable), Densifier(percent=1.0)
    kept = {name: value[50:].clone() for name, value in gaussians.tensors().items()}
    norms = torch.zeros(len(gaussians))
    norms[50:] = 1.0
    densifier.observe(observed(scene, norms), scene.rows)
    added, removed = densifier.densify(scene)
    assert (added, removed) == (0, 49)
    for name, value in kept.items():
        assert torch.equal(scene.gaussians.tensors()[name][1:], value)


def test_limits_that_no_gaussian_meets_remove_none_and_are_said(gaussians):
    """An edit of nothing would go on to its end without a word."""
    for editable in (None, torch.arange(len(gaussians)) < 50):
        scene, densifier = TrainableScene(gaussians, editable=editable), Densifier(min_opacity=0.999999)
        with pytest.warns(
            UserWarning, match=r"min_opacity=0\.999999 .* would remove all \d+ Gaussians that may change"
        ):
            assert densifier.densify(scene) == (0, 0)
        assert len(scene) == len(gaussians) and len(scene.params["means"]) == int(scene.editable.sum())
    with pytest.raises(UserError, match=r"densify\.min_opacity=1\.1 must be a number at least 0 and below 1"):
        Densifier(min_opacity=1.1)


def test_giants_go_only_where_that_is_asked_for(gaussians):
    gaussians.scales[:] = -7.0
    gaussians.scales[3, 1] = 1.0
    for max_size, expected in ((None, 0), (0.05, 1)):
        scene, densifier = TrainableScene(gaussians, extent=10.0), Densifier(max_size=max_size)
        assert densifier.densify(scene) == (0, expected)
        assert (scene.params["scales"].amax() > 0) == (max_size is None)


def test_optimizer_still_steps_after_densification(gaussians):
    scene, densifier = TrainableScene(gaussians), Densifier(percent=0.1)
    for _ in range(3):
        for name in scene.optimizers:
            scene.params[name].grad = torch.ones_like(scene.params[name])
        scene.step()
        densifier.observe(observed(scene, torch.rand(len(scene.params["means"]))), scene.rows)
        densifier.densify(scene)
    before = scene.params["opacities"].detach().clone()
    for name in scene.optimizers:
        scene.params[name].grad = torch.ones_like(scene.params[name])
    scene.step()
    assert (scene.params["opacities"] < before).all()
