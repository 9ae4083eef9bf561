"""Learning rates, masks and the guard."""

import math

import numpy as np
import pytest
import torch

from gs_ssd.edit.trainable import LearningRates, TrainableScene
from gs_ssd.errors import UserError
from gs_ssd.results.change import measure_change
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
        scene.mask_gradients()
        scene.step()
    for name, value in gaussians.tensors().items():
        assert torch.equal(scene.params[name][~editable], value[~editable])
        assert not torch.equal(scene.params[name][editable], value[editable])


def test_base_colours_stay_displayable_or_in_the_sources_range(gaussians):
    gaussians.sh0.clamp_(-0.5 / SH_C0, 0.5 / SH_C0)
    for outlier in (0.0, 9.0):
        gaussians.sh0[0] = outlier
        scene = TrainableScene(gaussians, rates=LearningRates(sh0=50.0))
        scene.params["sh0"].grad = -torch.ones_like(scene.params["sh0"])
        scene.step()
        limit = max(outlier, 0.5 / SH_C0)
        torch.testing.assert_close(scene.params["sh0"], torch.full_like(gaussians.sh0, limit))


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
