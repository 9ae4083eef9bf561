"""Learning rates, masks and the guard."""

import math

import numpy as np
import pytest
import torch

from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.trainable import LearningRates, TrainableScene
from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.render.renderer import activated
from gs_ssd.results.change import measure_change
from gs_ssd.scene import find_frame, orbit
from gs_ssd.scene.gaussians import SH_C0
from gs_ssd.scene.masks import Box, Parts, Sphere
from gs_ssd.scene.parts import PARTS


def test_means_rate_decays_log_linearly(gaussians):
    scene = TrainableScene(gaussians, rates=LearningRates(), extent=2.0)
    table = {0: 1.6e-4, 0.25: 8.99746e-5, 0.5: 5.05964e-5, 0.75: 2.84525e-5, 1: 1.6e-5}
    for progress, rate in table.items():
        scene.set_progress(progress)
        got = scene.optimizers["means"].param_groups[0]["lr"]
        assert math.isclose(got, 2 * rate, rel_tol=1e-5)


def test_a_masked_gaussian_stays_byte_exact(gaussians):
    editable = torch.rand(len(gaussians)) < 0.5
    scene = TrainableScene(gaussians, editable=editable)
    for _ in range(5):
        for name in scene.optimizers:
            scene.params[name].grad = torch.randn_like(scene.params[name])
        scene.step()
    assert torch.equal(scene.editable, editable)
    for kept, fresh in zip(scene.leaves["whole"][:4], activated(scene.gaussians)[:4]):
        torch.testing.assert_close(kept, fresh, rtol=1e-6, atol=0)
    for name, value in gaussians.tensors().items():
        now = scene.gaussians.tensors()[name]
        assert torch.equal(now[~editable], value[~editable])
        assert torch.equal(now[editable], scene.params[name])
        assert (now[editable] != value[editable]).any(dim=-1).all()


def test_what_is_not_editable_costs_the_optimiser_nothing(gaussians):
    """Parameters, gradients, moments and anchors have the editable rows alone; the loaded scene is not copied."""
    editable = torch.arange(len(gaussians)) % 50 == 0
    scene, anchors = TrainableScene(gaussians, editable=editable), Anchors(colour=1.0)
    anchors.record(scene)
    cameras = orbit(find_frame(gaussians), 1, width=32, height=32)
    render(scene.gaussians, cameras, **scene.leaves).rgb.sum().backward()
    anchors.add_gradients(scene)
    assert len(scene.gradients()) == len(scene.optimizers)
    assert all(len(gradient) == editable.sum() for gradient in scene.gradients())
    scene.step()
    state = scene.state_dict()
    tensors = [*state["params"].values(), *anchors.values.values(), anchors.per_gaussian]
    tensors += [value for moments in state["moments"].values() for value in moments.values() if value.dim()]
    assert all(len(tensor) == editable.sum() for tensor in tensors)
    assert scene.loaded is gaussians


def test_base_colours_stay_displayable_or_in_the_sources_range(gaussians):
    gaussians.sh0.clamp_(-0.5 / SH_C0, 0.5 / SH_C0)
    for outlier in (0.0, 9.0):
        gaussians.sh0[0] = outlier
        scene = TrainableScene(gaussians, rates=LearningRates(sh0=50.0))
        scene.params["sh0"].grad = -torch.ones_like(scene.params["sh0"])
        scene.step()
        limit = max(outlier, 0.5 / SH_C0)
        torch.testing.assert_close(scene.params["sh0"], torch.full_like(gaussians.sh0, limit))


def test_base_colours_may_run_free_as_in_the_published_code(gaussians):
    scene = TrainableScene(gaussians, rates=LearningRates(sh0=50.0), clamp_colours=False)
    scene.params["sh0"].grad = -torch.ones_like(scene.params["sh0"])
    scene.step()
    torch.testing.assert_close(scene.params["sh0"], gaussians.sh0 + 50, atol=1e-3, rtol=0)


def test_non_finite_gradients_are_named(gaussians):
    scene = TrainableScene(gaussians)
    for name in scene.optimizers:
        scene.params[name].grad = torch.zeros_like(scene.params[name])
    assert all(total.isfinite() for total in scene.gradient_sums().values())
    scene.params["quats"].grad[3, 1] = float("nan")
    assert [name for name, total in scene.gradient_sums().items() if not total.isfinite()] == ["quats"]


def test_regions(gaussians):
    inside = Sphere([0, 0, 0], 0.5)(gaussians)
    assert torch.equal(inside, gaussians.means.norm(dim=-1) <= 0.5)
    box = Box([-0.1, -9, -9], [0.1, 9, 9])(gaussians)
    assert torch.equal(box, gaussians.means[:, 0].abs() <= 0.1)
    with pytest.raises(UserError, match="holds no Gaussian"):
        Sphere([99, 0, 0], 1.0)(gaussians)


def test_guard_sees_a_small_local_edit_and_no_noise(gaussians):
    before = torch.rand(4, 64, 64, 3)
    noise = before + 0.004 * torch.randn_like(before)
    assert not measure_change(gaussians, gaussians, before, noise).visible
    mustache = before.clone()
    mustache[0, 30:36, 20:36] = 0
    assert measure_change(gaussians, gaussians, before, mustache).visible


def test_parts_of_a_sample_scene(gaussians, tmp_path):
    labels = np.arange(len(gaussians), dtype=np.uint8) % len(PARTS)
    np.save(tmp_path / "parts.npy", labels)
    chosen = Parts(str(tmp_path / "parts.npy"), ["skin", "hair"])(gaussians)
    assert chosen.tolist() == [PARTS[label] in ("skin", "hair") for label in labels]
    with pytest.raises(UserError, match="no part is called 'nose'; there are: studio, skin"):
        Parts(str(tmp_path / "parts.npy"), ["nose"])
