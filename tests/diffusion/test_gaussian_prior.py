"""The closed-form prior is what it says: the score of a Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.gaussian_prior import GaussianPrior


@pytest.fixture
def means() -> dict[str, torch.Tensor]:
    a, b = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {"a": a, "": b}


@pytest.mark.parametrize("t", [1, 400, 999])
@pytest.mark.parametrize("std", [0.0, 0.5])
def test_prediction_is_minus_sigma_times_the_score(means, std, t):
    prior = GaussianPrior(means, std=std)
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    z_t = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    density = torch.distributions.Normal(alpha * means["a"], (alpha**2 * std**2 + sigma**2) ** 0.5)
    (score,) = torch.autograd.grad(density.log_prob(z_t).sum(), z_t)
    assert_close(prior.predict_noise(z_t.detach(), t, prior.encode_prompt(["a"])), -sigma * score)


def test_the_point_prior_recovers_the_noise(means):
    prior = GaussianPrior(means)
    noise = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    z = torch.stack([means["a"], means[""]])
    z_t = prior.schedule.add_noise(z, noise, 500)
    assert_close(prior.predict_noise(z_t, 500, prior.encode_prompt(["a", ""])), noise)


def test_latents_are_pixels(means):
    prior = GaussianPrior(means)
    rgb = torch.rand(1, 4, 4, 3)
    assert_close(prior.decode(prior.encode(rgb)), rgb)
