"""CDS: the contrastive loss by its definition, and its gradient through the network to the latents."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior
from gs_ssd.diffusion.tiny import tiny_parts, tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.guidance import CDS, DDS, SSD, Step, encode_prompts
from gs_ssd.guidance.cds import cut_loss, info_nce
from tests.guidance.stub import Stub

TAU = 0.07


def features(seed: int = 0, shape: tuple[int, ...] = (2, 6, 4, 4)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_info_nce_by_its_definition():
    r, q = features(0, (1, 6, 5)), features(1, (1, 6, 5))
    r_unit, q_unit = (x[0] / x[0].norm(dim=0) for x in (r, q))
    expected = 0.0
    for i in range(5):
        similarity = [float(r_unit[:, i] @ q_unit[:, j]) for j in range(5)]
        negatives = sum(math.exp(similarity[j] / TAU) for j in range(5) if j != i) + math.exp(-10 / TAU)
        positive = math.exp(similarity[i] / TAU)
        expected -= math.log(positive / (positive + negatives)) / 5
    assert float(info_nce(r, q)) == pytest.approx(expected)


def test_a_single_patch_costs_next_to_nothing():
    r, q = features(0, (1, 6, 1)), features(1, (1, 6, 1))
    cosine = float(torch.cosine_similarity(r, q, dim=1))
    assert float(info_nce(r, q)) == pytest.approx(math.log1p(math.exp((-10 - cosine) / TAU)), abs=1e-12)


def test_the_scale_of_features_does_not_matter():
    r, q = features(0, (2, 6, 9)), features(1, (2, 6, 9))
    assert_close(info_nce(3 * r, 0.1 * q), info_nce(r, q))


def test_each_image_has_its_own_loss_and_the_reference_gets_no_gradient():
    r, q = features(0).requires_grad_(), features(1).requires_grad_()
    loss = cut_loss([r], [q])
    assert loss.shape == (2,)
    assert_close(loss[:1], cut_loss([r[:1]], [q[:1]]))
    loss.sum().backward()
    assert r.grad is None
    assert float(q.grad.abs().max()) > 0


def test_equal_features_still_have_a_gradient():
    q = features(1).requires_grad_()
    cut_loss([q.detach()], [q]).sum().backward()
    assert float(q.grad.abs().max()) > 1e-4


def test_layers_and_patch_sizes_add_up_and_small_maps_are_skipped():
    r, q = features(0), features(1)
    single = [cut_loss([r], [q], patch_sizes=[size]) for size in (1, 2)]
    assert_close(cut_loss([r, r], [q, q]), 2 * (single[0] + single[1]))
    assert_close(cut_loss([r], [q], patch_sizes=[1, 8]), single[0])


def test_positions_are_shared_and_follow_the_generator():
    r, q = features(0), features(1)
    draws = [
        cut_loss([r], [q], patches=4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert_close(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])
    aligned = cut_loss([q], [q], patches=4, patch_sizes=[1])
    assert bool((aligned < cut_loss([r], [q], patches=4, patch_sizes=[1])).all())


@pytest.fixture(scope="module")
def prior() -> StableDiffusionPrior:
    return tiny_prior()


def step_of(prior: StableDiffusionPrior, *, batch: int = 1) -> Step:
    z, z_src, noise = torch.randn(3, batch, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = encode_prompts(prior, target="a clown", source="a man")
    return Step(z, z_src, noise, 300, prior.schedule, text)


def test_features_come_from_every_self_attention_of_the_up_blocks(prior):
    step = step_of(prior, batch=2)
    text = step.text_of("target")
    found = prior.attention_features(step.z_t, step.t, text)
    assert [tuple(f.shape) for f in found] == [(2, 16, 8, 8)] * 2
    before = prior.predict_noise(step.z_t, step.t, text)
    assert torch.equal(before, prior.predict_noise(step.z_t, step.t, text))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in prior.unet.modules()]
    assert sum(hooks) == 0
    odd = prior.attention_features(torch.randn(1, 4, 9, 12), step.t, step.text["target"])
    assert odd[0].shape == (1, 16, 9, 12)


def test_the_gradient_is_that_of_the_loss(prior):
    """The directional derivative of L_CUT with respect to z against a central difference."""
    step = step_of(prior)
    grad = CDS(DDS()).cut_gradient(prior, step)
    reference = prior.attention_features(step.z_src_t, step.t, step.text["source"])
    direction = torch.randn(step.z.shape, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def loss(z: torch.Tensor) -> torch.Tensor:
        moved = replace(step, z=z)
        return cut_loss(reference, prior.attention_features(moved.z_t, step.t, step.text["target"])).sum()

    h = 2e-3
    numeric = (loss(step.z.detach() + h * direction) - loss(step.z.detach() - h * direction)) / (2 * h)
    assert_close((grad * direction).sum(), numeric, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("score", [DDS(), SSD()], ids=lambda score: score.name)
def test_it_adds_to_the_score(prior, score):
    step = step_of(prior, batch=2)
    plain = score(prior, step)
    grad = CDS(score)(prior, step)
    assert not grad.requires_grad
    cut = CDS(score).cut_gradient(prior, step)
    assert_close(grad, plain + 3 * 64**2 / 2000 * cut, atol=1e-5, rtol=1e-4)
    assert_close(CDS(score, w_cut=0)(prior, step), plain)
    schedule = prior.schedule
    assert CDS(score).evaluations(300, schedule) == score.evaluations(300, schedule) + 2
    assert all(p.grad is None for p in prior.unet.parameters())


def test_it_does_not_vanish_when_there_is_nothing_to_edit(prior):
    """Patches of one image resemble each other, and the loss pushes them apart."""
    step = step_of(prior)
    text = encode_prompts(prior, target="a man", source="a man")
    same = replace(step, z_src=step.z, text=text)
    # But for rounding: some machines' kernels round equal inputs of one batch differently.
    assert float(DDS()(prior, same).abs().max()) < 1e-4 * float(DDS()(prior, step).abs().max())
    assert float(CDS(DDS())(prior, same).abs().max()) > 1e-2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"score": "ssd"}, "score=ssd must be the settings of a guidance"),
        ({"patch_sizes": 2}, "patch_sizes=2 must be a list of whole numbers"),
        ({"patch_sizes": [1.5]}, r"patch_sizes=\[1.5\] must be a list of whole numbers"),
        ({"patch_sizes": []}, "must be at least 1"),
        ({"patches": 0}, "patches=0 and each"),
    ],
)
def test_settings_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        CDS(**{"score": DDS(), **arguments})


def test_a_prior_without_attention_is_refused():
    with pytest.raises(UserError, match="stub prior has no self-attention in its up blocks"):
        CDS(DDS()).prepare(Stub())
    parts = tiny_parts()
    parts["unet"] = type(parts["unet"])(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    with pytest.raises(UserError, match="plain prior has no self-attention"):
        CDS(DDS()).prepare(StableDiffusionPrior(**parts, name="plain"))
