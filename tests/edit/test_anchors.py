"""Anchor losses: the published weights, the closed-form gradient, and what they leave alone."""

import pytest
import torch

from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.trainable import TrainableScene


def test_weights_follow_the_published_generations():
    anchors = Anchors(first=0.05, initial=0.1, multiplier=1.3)
    expected = {1: [0.065, 0], 2: [0.0845, 0.1, 0], 3: [0.10985, 0.13, 0.1, 0]}
    for densification in range(1, 15):
        anchors.advance()
        if densification in expected:
            assert anchors.weights == pytest.approx(expected[densification])
    assert anchors.weights[0] == pytest.approx(1.968688, abs=1e-6)
    assert anchors.weights[1] == pytest.approx(2.329809, abs=1e-6)
    assert anchors.weights[-3:] == pytest.approx([0.13, 0.1, 0])
    for _ in range(10):
        anchors.advance()
    assert anchors.weights[0] == 10


def test_zero_right_after_recording(gaussians):
    scene = TrainableScene(gaussians)
    anchors = Anchors(colour=5.0)
    anchors.record(scene)
    assert anchors.add_gradients(scene) == 0
    assert all(not scene.params[name].grad.any() for name in anchors.values)


def test_gradient_is_that_of_the_loss(gaussians):
    """Against autograd on the definition, with generations, a mask and every attribute on."""
    editable = torch.arange(len(gaussians)) % 3 > 0
    scene = TrainableScene(gaussians, editable=editable)
    anchors = Anchors(geometry=5.0, colour=2.0, opacity=3.0, scale=4.0)
    anchors.advance()
    anchors.advance()
    scene.params["generation"].copy_(torch.arange(int(editable.sum())) % 3)
    anchors.record(scene)
    moved = {}
    with torch.no_grad():
        for name in anchors.values:
            scene.params[name].add_(torch.randn_like(scene.params[name]))
            moved[name] = scene.params[name].detach().clone().requires_grad_()
    loss = anchors.add_gradients(scene)

    weights = torch.tensor(anchors.weights)[scene.params["generation"]]
    expected = 0
    for name, value in moved.items():
        squared = (value - anchors.values[name]) ** 2 * weights.reshape(-1, *[1] * (value.dim() - 1))
        expected = expected + anchors.strengths[name] * squared.mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, value in moved.items():
        torch.testing.assert_close(scene.params[name].grad, value.grad)


def test_degree_zero_scene_has_a_finite_colour_anchor(gaussians):
    """The mean over an empty shN must not become NaN."""
    flat = gaussians.map(lambda value: value)
    flat.shN = flat.shN[:, :0]
    scene = TrainableScene(flat)
    anchors = Anchors(colour=1.0)
    anchors.record(scene)
    assert anchors.add_gradients(scene) == 0
