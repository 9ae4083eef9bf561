"""PDS: the closed form against the posterior's latents, its factors, and where it is zero."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.guidance import DDS, PDS
from tests.guidance.stub import Stub, assert_zero, make_case


@pytest.mark.parametrize("seed", [3, 4])
def test_it_matches_the_stochastic_latents_of_the_posterior(case, seed):
    """G = ζ_tgt − ζ_src, written out as the method defines it, whatever its second noise ε' is."""
    schedule, t, s = case.prior.schedule, case.t, 100.0
    alpha_bar, alpha_bar_p = schedule.alpha(t) ** 2, schedule.alpha(t - 2) ** 2
    alpha = alpha_bar / schedule.alpha(t - 1) ** 2
    beta = 1 - alpha
    spread = ((1 - alpha_bar_p) / (1 - alpha_bar) * beta) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    second_noise = torch.randn(case.z.shape, generator=generator, dtype=torch.float64)

    def stochastic_latent(clean, eps):
        z_t = alpha_bar**0.5 * clean + case.sigma * case.noise
        denoised = (z_t - case.sigma * eps) / alpha_bar**0.5
        mean = alpha_bar_p**0.5 * beta / (1 - alpha_bar) * denoised
        mean = mean + alpha**0.5 * (1 - alpha_bar_p) / (1 - alpha_bar) * z_t
        return (alpha_bar_p**0.5 * clean + (1 - alpha_bar_p) ** 0.5 * second_noise - mean) / spread

    target = stochastic_latent(case.z, case.cfg("target", "target", s))
    source = stochastic_latent(case.z_src, case.cfg("source", "source", s))
    assert_close(case.g(PDS(s=s)), target - source, atol=1e-8, rtol=1e-8)


def test_it_is_dds_and_the_clean_difference_by_its_factors(case):
    psi, chi = PDS().factors(case.t, case.prior.schedule)
    assert_close(case.g(PDS(s=7.5)), psi * case.difference + chi * case.g(DDS(s=7.5)))


def test_with_a_consistent_step_it_is_scaled_dds(case):
    pds = PDS(s=7.5, stride=1)
    psi, chi = pds.factors(case.t, case.prior.schedule)
    assert psi == pytest.approx(0, abs=1e-9)
    assert_close(case.g(pds), chi * case.g(DDS(s=7.5)))


@pytest.mark.parametrize(
    "t, psi, chi",
    [
        (21, 1.613322, 0.231696),
        (101, 0.314320, 0.115470),
        (201, 0.139588, 0.091812),
        (301, 0.079400, 0.083821),
        (501, 0.032107, 0.082135),
        (701, 0.014451, 0.090018),
        (901, 0.006195, 0.103461),
        (979, 0.004206, 0.109538),
    ],
)
def test_golden_factors(t, psi, chi):
    assert PDS().factors(t, Stub().schedule) == pytest.approx((psi, chi), abs=1e-6)


def test_it_needs_an_earlier_timestep():
    with pytest.raises(ValueError, match="t = 0"):
        PDS().factors(0, Stub().schedule)
    with pytest.raises(ValueError, match="stride=0 must be at least 1"):
        PDS(stride=0)


def test_it_vanishes_when_there_is_nothing_to_edit(same):
    assert_zero(same.g(PDS()))


def test_a_constant_prediction_leaves_the_clean_difference(constant_prior):
    case = make_case(constant_prior)
    psi, _ = PDS().factors(case.t, case.prior.schedule)
    assert_close(case.g(PDS()), psi * case.difference)
