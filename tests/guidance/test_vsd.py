"""VSD: the formula, the adapters' training, and that the prior stays what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.lora import LoraTwin
from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior
from gs_ssd.diffusion.tiny import tiny_parts, tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.guidance import SDS, SSD, VSD, encode_prompts
from tests.guidance.stub import Case, Stub, assert_not_zero, assert_zero


def tiny_case(prior: StableDiffusionPrior | None = None, *, batch: int = 2) -> Case:
    prior = prior or tiny_prior()
    z, z_src, noise = torch.randn(3, batch, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return Case(prior, z, z_src, noise, encode_prompts(prior, target="a clown", source="a man"), 300)


def test_with_the_drawn_noise_as_its_prediction_it_is_sds():
    case, vsd = tiny_case(), VSD(s=7.5)
    vsd.lora = LoraTwin(case.prior)
    vsd.lora.predict_noise = lambda z_t, t, text, image: case.noise
    assert_close(case.g(vsd), case.g(SDS(s=7.5)), atol=1e-5, rtol=1e-5)


def test_a_network_that_answers_alike_to_everything_gives_nothing():
    case = tiny_case()
    with torch.no_grad():
        case.prior.unet.conv_out.weight.zero_()
        case.prior.unet.conv_out.bias.copy_(torch.tensor([-0.5, 0.25, 1.0, 2.0]))
    assert_zero(case.g(VSD()))
    assert_not_zero(case.g(SDS()))


@pytest.mark.parametrize("freeu", [False, True])
def test_it_starts_as_the_prior_so_unit_guidance_gives_nothing(freeu):
    case = tiny_case(tiny_prior(freeu=freeu))
    case.g(SSD())  # leaves FreeU on, where there is any
    assert_close(case.g(VSD(s=1)), torch.zeros_like(case.z), atol=1e-6, rtol=0)
    expected = case.sigma**2 * 6.5 * case.delta("target", "target")
    assert_close(case.g(VSD(s=7.5)), expected, atol=1e-5, rtol=1e-4)


def test_every_evaluation_trains_one_step_and_only_the_adapters():
    case, vsd = tiny_case(), VSD()
    weights = {name: p.clone() for name, p in case.prior.unet.named_parameters()}
    others = case.g(SSD())
    for _ in range(3):
        grad = case.g(vsd)
        assert not grad.requires_grad
    assert torch.equal(case.g(SSD()), others)
    after = dict(case.prior.unet.named_parameters())
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert not any(p.requires_grad or p.grad is not None for p in after.values())

    names = [name for name, p in vsd.lora.twin.unet.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name for name in names)
    assert vsd.lora.optimizer.state[vsd.lora.parameters[0]]["step"] == 3
    shared = {p.data_ptr() for p in after.values()}
    own = [p for p in vsd.lora.twin.unet.parameters() if p.data_ptr() not in shared]
    assert sum(p.numel() for p in own) == sum(p.numel() for p in vsd.lora.parameters)


@pytest.mark.parametrize("prediction_type", ["epsilon", pytest.param("v_prediction", marks=pytest.mark.slow)])
def test_training_lowers_the_loss_on_a_fixed_latent(prediction_type):
    case = tiny_case(StableDiffusionPrior(**tiny_parts(prediction_type=prediction_type)), batch=1)
    twin, text = LoraTwin(case.prior, rank=8, lr=1e-2), case.text["target"]

    @torch.no_grad()
    def validation() -> float:
        generator = torch.Generator().manual_seed(9)
        noises = [torch.randn(case.z.shape, generator=generator) for _ in range(5)]
        losses = [
            twin.loss(case.z, t, text, None, noise) for t, noise in zip((50, 250, 450, 650, 850), noises)
        ]
        return float(torch.stack(losses).mean())

    before, generator = validation(), torch.Generator().manual_seed(0)
    for _ in range(30):
        twin.train_step(case.z, text, None, generator)
    assert validation() < 0.95 * before


def test_on_instructpix2pix_the_adapted_network_sees_the_source_image_too():
    plain = tiny_case(tiny_prior(image_condition=True))
    image = torch.randn(plain.z.shape, generator=torch.Generator().manual_seed(1))
    case = replace(plain, image=image)
    assert_close(case.g(VSD(s=1)), torch.zeros_like(case.z), atol=1e-6, rtol=0)
    vsd, inputs = VSD(), []
    vsd.prepare(case.prior)
    vsd.lora.twin.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[0][:, 4:]))
    case.g(vsd)
    assert len(inputs) == 2 and all(torch.equal(seen, image) for seen in inputs)


@pytest.mark.slow
def test_the_generator_decides_the_training():
    def run(seed: int) -> torch.Tensor:
        case, vsd = tiny_case(), VSD(lr=1e-2)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(3):
            grad = replace(case, generator=generator).g(vsd)
        return grad

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_adapters_train_in_float32_on_a_half_precision_prior():
    case = tiny_case(StableDiffusionPrior(**tiny_parts(), dtype=torch.bfloat16))
    vsd = VSD()
    assert case.g(vsd).dtype == torch.float32
    assert {p.dtype for p in vsd.lora.parameters} == {torch.float32}


def test_another_prior_gets_its_own_adapters():
    vsd, first, second = VSD(), tiny_case(), tiny_case()
    first.g(vsd)
    twin = vsd.lora
    second.g(vsd)
    assert vsd.lora is not twin and vsd.lora.prior is second.prior


def test_a_prior_without_attention_is_refused():
    with pytest.raises(UserError, match="stub prior has no attention layers"):
        VSD().prepare(Stub())


@pytest.mark.filterwarnings("ignore:`LoRALinearLayer` is deprecated:FutureWarning")
def test_the_published_initialisation_is_normal_with_deviation_one_over_rank():
    """diffusers' LoRA layers, which the authors train, draw A from N(0, 1/rank)."""
    from diffusers.models.lora import LoRALinearLayer

    torch.manual_seed(0)
    theirs = LoRALinearLayer(64, 64, rank=4).down.weight.detach().std()
    stds = {}
    for init in ("kaiming", "gaussian"):
        twin = LoraTwin(tiny_prior(), rank=4, init=init)
        stds[init] = torch.cat(
            [p.detach().flatten() for name, p in twin.named.items() if "lora_A" in name]
        ).std()
    assert float(stds["gaussian"]) == pytest.approx(float(theirs), rel=0.15)
    assert float(stds["kaiming"]) < 0.5 * float(theirs)
    with pytest.raises(ValueError, match="init='normal' is none of kaiming, gaussian"):
        VSD(init="normal")
