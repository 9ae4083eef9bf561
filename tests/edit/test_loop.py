"""The edit loop on the closed-form prior: it goes where the formula says, and stops before it breaks anything."""

from functools import partial

import pytest
import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.loop import NonFiniteError, distil
from gs_ssd.edit.splats import SourceViews, SplatCanvas
from gs_ssd.edit.trainable import LearningRates, TrainableScene
from gs_ssd.guidance import SSD, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import FixedViews, OrbitViews, find_frame

SIZE = 32
GREY = torch.tensor([0.5, 0.5, 0.5])


def prior() -> GaussianPrior:
    """Two prompts: grey pictures and red ones."""
    grey = torch.full((3, SIZE, SIZE), 0.5)
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1).expand(3, SIZE, SIZE)
    return GaussianPrior({"": grey, "grey": grey, "red": red}, std=0.3)


def steps(scene: TrainableScene, gaussians, *, num_steps=30, source_prior=None, **kwargs):
    source_prior = source_prior or prior()
    generator = torch.Generator().manual_seed(0)
    cameras, _ = OrbitViews(find_frame(gaussians), SIZE, SIZE).sample(8, generator)
    canvas = SplatCanvas(
        scene,
        source=gaussians.clone(),
        views=FixedViews(cameras),
        renderer=partial(render, background=GREY),
        prior=source_prior,
        texts=encode_prompts(source_prior, target="red", source="grey"),
        **kwargs,
    )
    return distil(
        canvas,
        prior=source_prior,
        guidance=SSD(),
        timesteps=Linear(),
        num_steps=num_steps,
        generator=generator,
    )


def redness(gaussians) -> torch.Tensor:
    return gaussians.rgb[:, 0] - gaussians.rgb[:, 1:].mean(dim=1)


def test_an_edit_moves_towards_the_target(gaussians):
    scene = TrainableScene(gaussians, rates=LearningRates(sh0=0.05))
    reports = list(steps(scene, gaussians, views_per_step=2, anchors=Anchors()))
    assert redness(scene.gaussians).mean() > redness(gaussians).mean() + 0.1
    assert [report.t for report in reports] == sorted((report.t for report in reports), reverse=True)
    assert {"render", "encode", "prior", "backward", "own"} == set(reports[0].seconds)


def test_gaussians_outside_the_mask_stay_byte_exact_through_densification(gaussians):
    editable = gaussians.means[:, 0] > 0
    scene = TrainableScene(gaussians, editable=editable, extent=2.0)
    densifier = Densifier(every=5, start=5, percent=0.1)
    list(steps(scene, gaussians, num_steps=16, anchors=Anchors(), densifier=densifier))
    kept = ~scene.editable
    assert len(kept) > len(editable) and kept.sum() == (~editable).sum()
    for name, value in gaussians.tensors().items():
        assert torch.equal(scene.gaussians.tensors()[name][kept], value[~editable])


def test_the_prior_gets_no_gradient_and_the_source_stays(gaussians):
    source_prior = prior()
    source_prior.means.requires_grad_()
    original = gaussians.clone()
    list(steps(TrainableScene(gaussians), gaussians, num_steps=2, source_prior=source_prior))
    assert source_prior.means.grad is None
    for name, value in original.tensors().items():
        assert torch.equal(gaussians.tensors()[name], value)


def test_a_non_finite_gradient_stops_before_the_scene_moves(gaussians):
    class Broken(GaussianPrior):
        calls = 0

        def predict_noise(self, z_t, t, text, image=None, *, freeu=False):
            self.calls += 1
            return super().predict_noise(z_t, t, text, image) * (float("nan") if self.calls == 3 else 1)

    broken = Broken({"": prior().means[0], "grey": prior().means[1], "red": prior().means[2]}, std=0.3)
    scene = TrainableScene(gaussians)
    run = steps(scene, gaussians, source_prior=broken)
    next(run), next(run)
    good = scene.gaussians.clone()
    with pytest.raises(NonFiniteError, match=r"ssd gradient is not finite at step 2 \(t = "):
        next(run)
    for name, value in good.tensors().items():
        assert torch.equal(scene.gaussians.tensors()[name], value)


def test_source_latents_of_fixed_views_are_computed_once(gaussians):
    calls = []

    def counting(scene, cameras):
        calls.append(len(cameras))
        return render(scene, cameras, background=GREY)

    cameras, _ = OrbitViews(find_frame(gaussians), SIZE, SIZE).sample(3, torch.Generator().manual_seed(0))
    source = SourceViews(gaussians, counting, prior())
    first, *_ = source(cameras[[0, 2]], torch.tensor([0, 2]))
    again, *_ = source(cameras[[2, 0]], torch.tensor([2, 0]))
    assert calls == [1, 1] and torch.equal(first, again.flip(0))
    source(cameras, None)
    assert calls == [1, 1, 3]
