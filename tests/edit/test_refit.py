"""Editing pictures and refitting the scene to them: which views are edited when, that it moves, resumes and refuses."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.edit.photometric import photometric
from gs_ssd.edit.refit import Refit
from gs_ssd.edit.trainable import LearningRates
from gs_ssd.editors import DDIMInversion, FlowEdit, SDEdit
from gs_ssd.errors import UserError
from gs_ssd.scene import OrbitViews, find_frame
from gs_ssd.session.edit import SceneEdit
from tests.session import small
from tests.synthetic import random_gaussians


def method(**settings) -> Refit:
    return Refit(**{"s": 1.0, "moves": 3, "every": 2, "strength": (0.5, 0.9)} | settings)


@pytest.mark.parametrize("when", ["every", "first", "all"])
def test_the_scene_goes_where_the_pictures_are_edited_to(when):
    edit = small.edit(30, guidance=method(when=when), rates=LearningRates(sh0=0.05))
    reports = list(edit)
    before, after = edit.before.rgb, edit.gaussians.rgb
    assert len(after) > len(before)  # densified by the refit's own gradients
    assert (after[:, 0] - after[:, 1:].mean(1)).mean() > (before[:, 0] - before[:, 1:].mean(1)).mean() + 0.1
    assert reports[0].t > 0 and reports[1].t == (0 if when != "first" else reports[1].t)
    assert sum(report.evaluations for report in reports) > 0


def test_which_views_are_edited():
    assert method(when="every").due(4, [3], 8) == [3] and method(when="every").due(5, [3], 8) == []
    assert method(when="all").due(4, [3], 8) == list(range(8)) and method(when="all").due(5, [3], 8) == []
    first = method(when="first")
    assert first.due(5, [3], 8) == [3]
    first.pictures[3] = torch.zeros(2, 2, 3)
    assert first.due(5, [3], 8) == [] and first.due(6, [3], 8) == [3]


def test_the_levels_of_rounds_and_of_chance():
    rounds = method(rounds=[0.9, 0.3, 0.02], every=10)
    generator = torch.Generator().manual_seed(0)
    assert [rounds.level(step, generator) for step in (0, 9, 10, 20, 90)] == [0.9, 0.9, 0.3, 0.02, 0.02]
    drawn = [method().level(0, generator) for _ in range(50)]
    assert 0.5 <= min(drawn) < 0.6 and 0.8 < max(drawn) <= 0.9


def test_so_many_views_are_taken_all_around():
    cameras, _ = OrbitViews(find_frame(random_gaussians(50)), 32, 32).sample(
        96, torch.Generator().manual_seed(0)
    )
    from gs_ssd.scene import FixedViews

    kept = method(views=4).check_views(FixedViews(cameras)).cameras
    assert torch.equal(kept.viewmats, cameras[[0, 24, 48, 72]].viewmats)


def test_a_view_that_was_not_edited_is_held_by_its_source(monkeypatch):
    edit = small.edit(
        3, guidance=method(every=100), rates=LearningRates(sh0=0.05), densifier=None, anchors=None
    )
    edit.guidance.pictures = {}
    monkeypatch.setattr(edit.guidance, "due", lambda step, indices, count: [])
    losses = [report.loss for report in edit]
    assert losses[0] < 1e-4  # nothing to fit: the render is the source


@pytest.mark.parametrize("when", ["every", "first", "all"])
def test_a_resumed_refit_is_the_uninterrupted_one(when, tmp_path):
    whole = small.edit(8, guidance=method(when=when))
    list(whole)
    first = small.edit(8, guidance=method(when=when))
    for _ in range(5):
        next(first)
    path = first.save_checkpoint(tmp_path)
    second = SceneEdit.resume(path, scene=small.scene(), prior=small.prior())
    list(second)
    for name, value in whole.gaussians.tensors().items():
        assert torch.equal(value, second.gaussians.tensors()[name])


def test_photometric_is_zero_for_equal_pictures_and_grows():
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    assert photometric(picture, picture, w_l1=10, w_ssim=10).item() == pytest.approx(0, abs=1e-5)
    off = photometric(picture + 0.1, picture, w_l1=10, w_ssim=0).item()
    assert off == pytest.approx(1.0, rel=1e-4)
    assert photometric(1 - picture, picture, w_l1=0, w_ssim=1).item() > 1  # against the structure
    assert torch.isfinite(photometric(picture[:, :8], picture[:, :8], w_l1=1, w_ssim=1))


def test_joint_attention_makes_views_of_a_group_depend_on_each_other():
    prior = tiny_prior()
    z = torch.randn(4, prior.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    text = prior.encode_prompt(["a clown"]).expand(4)
    alone = prior.predict_noise(z, 500, text)
    with prior.joint_attention(2):
        joint = prior.predict_noise(z, 500, text)
        swapped = prior.predict_noise(z[[1, 0, 2, 3]], 500, text)
    assert not torch.allclose(joint, alone, atol=1e-5)
    torch.testing.assert_close(swapped[[1, 0, 2, 3]], joint)  # a group has no order
    assert torch.equal(prior.predict_noise(z, 500, text), alone)  # and nothing is left behind
    with prior.joint_attention(2):
        twins = prior.predict_noise(z[[0, 0, 1, 1]], 500, text)
    torch.testing.assert_close(twins[::2], alone[:2])  # a picture beside its double sees itself


def test_bad_settings_are_one_line():
    with pytest.raises(UserError, match=r"guidance\.joint=2 shares self-attention"):
        small.edit(2, guidance=method(joint=2))
    with pytest.raises(UserError, match="guidance=flowedit edits a picture; for a scene, use guidance=in2n"):
        small.edit(2, guidance=FlowEdit())
    with pytest.raises(UserError, match=r"scene\.views\.count=24"):
        scene = small.scene()
        scene.views["count"] = None
        SceneEdit(scene, small.PROMPTS, prior=small.prior(), guidance=method(), num_steps=2)
    with pytest.raises(UserError, match=r"guidance\.editor=paint"):
        Refit(editor="paint")
    with pytest.raises(UserError, match=r"guidance\.strength"):
        Refit(strength=[0.9, 0.5])
    with pytest.raises(UserError, match="to generate, use nfsd"):
        Refit().check_generation(small.prior())


def test_the_editor_is_chosen_by_the_prior():
    chosen = Refit()
    chosen.prepare(small.prior())
    assert isinstance(chosen.hand, SDEdit)
    image = Refit()
    image.prepare(tiny_prior(image_condition=True))
    assert image.hand.name == "instruct_pix2pix"
    own = Refit(editor=DDIMInversion(strength=0.4))
    own.prepare(small.prior())
    assert own.hand.strength == 0.4
