"""Every family in miniature: folders that load, latents and predictions, and edits of a scene and of a picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.load import TINY, load_prior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.diffusion.tiny import MINIATURES, save_miniature, tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.guidance import (
    CDS,
    CSD,
    DDS,
    NFSD,
    PDS,
    SDS,
    SSD,
    VSD,
    DreamCatalyst,
    Guidance,
    Step,
    encode_prompts,
)

# Of the tests that take longest, the fast lane has one of each kind of network.
FEW = ("sd", "sdxl", "sd3", "pixart")
EACH = [family if family in FEW else pytest.param(family, marks=pytest.mark.slow) for family in MINIATURES]
PRIORS = {family: tiny_prior(family) for family in MINIATURES}
FLOW = ("sd3", "sd3_t5", "flux", "flux2", "z_image")


@pytest.fixture(params=MINIATURES)
def prior(request) -> DiffusersPrior:
    return PRIORS[request.param]


def step_of(prior: DiffusersPrior, *, t: int = 499) -> Step:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 1, 64, 64, 3, generator=generator)
    z, z_src = (prior.encode(x).detach() for x in rgb)
    noise = torch.randn(z.shape, generator=generator)
    text = encode_prompts(prior, target="a clown", source="a man", negative="bad")
    image = prior.encode_condition(rgb[1]) if prior.takes_image else None
    return Step(z, z_src, noise, t, prior.schedule, text, image, generator)


def test_latents_go_both_ways(prior):
    rgb = torch.rand(1, 64, 128, 3, requires_grad=True)
    z = prior.encode(rgb)
    side = prior.vae_scale_factor
    assert z.shape == (1, prior.latent_channels, 64 // side, 128 // side)
    z.sum().backward()
    assert bool(rgb.grad.isfinite().all()) and float(rgb.grad.abs().max()) > 0
    assert prior.decode(z).shape == rgb.shape
    assert_close(prior.unpack(prior.pack(prior.unpack(z))), prior.unpack(z))


def test_a_batch_is_its_members_one_by_one(prior):
    step = step_of(prior)
    text = TextCondition.cat([step.text["target"], step.text["null"]])
    z_t = torch.cat([step.z_t, step.z_src_t])
    image = None if step.image is None else step.image.repeat(2, 1, 1, 1)
    together = prior.predict_noise(z_t, step.t, text, image)
    for i, alone in enumerate(text.split()):
        one = prior.predict_noise(z_t[[i]], step.t, alone, step.image)
        assert_close(one, together[[i]], atol=2e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("t", [19, 499, 979])
def test_an_ideal_network_returns_the_drawn_noise(prior, t, monkeypatch):
    step = step_of(prior, t=t)
    ideal = prior.network_target(step.z, step.noise, t)
    monkeypatch.setattr(prior, "network_output", lambda *args, **kwargs: ideal)
    assert_close(prior.predict_noise(step.z_t, t, step.text["target"]), step.noise, atol=1e-4, rtol=1e-4)


def test_the_time_reaches_the_network(prior):
    step = step_of(prior)
    early, late = (prior.network_output(step.z_t, t, step.text["target"], step.image) for t in (100, 900))
    assert not torch.allclose(early, late, atol=1e-4)


class Attentions(TorchFunctionMode):
    """Counts fused attentions, and products with a matrix of all pairs."""

    fused = spelled_out = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.fused += function is F.scaled_dot_product_attention
        self.spelled_out += function in (F.softmax, torch.softmax, torch.Tensor.softmax)
        return function(*args, **(kwargs or {}))


def test_attention_is_fused(prior):
    """In the network and in the autoencoder, forwards and backwards."""
    step = step_of(prior)
    with Attentions() as seen:
        prior.network_output(step.z_t, step.t, step.text["target"], step.image)
    assert seen.fused and not seen.spelled_out
    with Attentions() as seen:
        prior.encode(torch.rand(1, 64, 64, 3, requires_grad=True)).sum().backward()
    assert seen.fused and not seen.spelled_out


@pytest.mark.parametrize("family", EACH)
def test_folders_load_as_what_was_saved(family, tmp_path):
    folder, original = save_miniature(family, tmp_path / "model"), PRIORS[family]
    loaded = load_prior(str(folder), device="cpu")
    assert loaded.name == str(folder)
    assert (loaded.has_null, loaded.schedule.trained) == (original.has_null, original.schedule.trained)
    step = step_of(original)
    expected = original.predict_noise(step.z_t, step.t, step.text["target"], step.image)
    text = loaded.encode_prompt(["a clown"])
    assert_close(loaded.predict_noise(step.z_t, step.t, text, step.image), expected)
    half = load_prior(str(folder), device="cpu", dtype="bfloat16")
    assert half.network.dtype == torch.bfloat16 and half.vae.dtype == torch.float32
    predicted = half.predict_noise(step.z_t, step.t, half.encode_prompt(["a clown"]), step.image)
    assert float((predicted - expected).norm() / expected.norm()) < 0.05


def test_the_schedule_is_that_of_the_folder():
    assert PRIORS["sd3"].schedule.sigma(499) == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    assert PRIORS["sd"].schedule.sigma(999) < 1 == PRIORS["flux"].schedule.sigma(999)
    assert all(PRIORS[family].prediction_type == "flow" for family in FLOW)


METHODS = [
    SDS(),
    DDS(),
    CSD(),
    CSD(w_b=0),
    NFSD(),
    SSD(),
    PDS(),
    DreamCatalyst(),
    VSD(),
    CDS(DDS()),
    CDS(SSD()),
]
# What a guidance-distilled model still allows: no branch with the empty prompt.
WITHOUT_NULL = [SDS(s=1), DDS(s=1), CSD(), PDS(s=1), DreamCatalyst(s=1), VSD(s=1), CDS(DDS(s=1))]


def runs(prior: DiffusersPrior, guidance: Guidance) -> None:
    guidance.prepare(prior)
    grad = guidance(prior, step_of(prior))
    assert bool(grad.isfinite().all())
    untrained = isinstance(guidance, VSD) and guidance.s == 1  # its adapted network is still the same network
    assert (float(grad.abs().max()) > 0) != untrained


@pytest.mark.parametrize("family", EACH)
def test_which_method_runs_on_which_model(family):
    """The table of docs/models.md: a method runs, or refuses in one line that says why."""
    prior = PRIORS[family]
    unet = hasattr(prior, "unet")
    for guidance in METHODS if prior.has_null else WITHOUT_NULL:
        if isinstance(guidance, CDS) and not unet:
            with pytest.raises(UserError, match="no self-attention in its up blocks"):
                guidance.prepare(prior)
        else:
            runs(prior, guidance)
    if not prior.has_null:
        for guidance in METHODS:
            if guidance.needs_null(prior.schedule):
                with pytest.raises(UserError, match=r"compares with the empty prompt.*distilled"):
                    guidance.prepare(prior)


def test_only_trained_timesteps_are_used():
    from gs_ssd.diffusion.timesteps import Linear, Uniform

    generator = torch.Generator().manual_seed(0)
    for family, known in (("sd_turbo", {249, 499, 749, 999}), ("lcm", set(range(19, 1000, 20)))):
        schedule = PRIORS[family].schedule
        for rule in (Linear(), Uniform()):
            assert {rule(step, 40, schedule, generator) for step in range(40)} <= known


def test_every_alias_of_a_miniature_is_a_family():
    for name, family in TINY.items():
        prior = load_prior(name, device="cpu", dtype="bfloat16")
        assert prior.family == "tiny" and family in MINIATURES and prior.network.dtype == torch.bfloat16
