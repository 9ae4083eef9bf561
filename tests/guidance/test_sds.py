"""SDS: its parts, its reading as a reconstruction loss, and where it is zero."""

from __future__ import annotations

from dataclasses import replace

from torch.testing import assert_close

from gs_ssd.guidance import SDS
from tests.guidance.stub import assert_not_zero, assert_zero, make_case


def uniform_sds(s: float) -> SDS:
    return SDS(s=s, uniform=True)


def test_it_splits_into_residual_and_classifier(case):
    expected = (case.e("target", "null") - case.noise) + 7.5 * case.delta("target", "target")
    assert_close(case.g(uniform_sds(7.5)), expected)
    assert_close(case.g(SDS(s=7.5)), case.sigma**2 * expected)


def test_it_is_the_residual_to_the_denoised_latent(case):
    eps = case.cfg("target", "target", 7.5)
    z_t = case.alpha * case.z + case.sigma * case.noise
    denoised = (z_t - case.sigma * eps) / case.alpha
    assert_close(case.g(uniform_sds(7.5)), case.k * (case.z - denoised))


def test_dreamfusions_convention_is_one_more(case):
    eps = case.e("target", "target") + 100 * case.delta("target", "target")
    assert_close(case.g(uniform_sds(101)), eps - case.noise)


def test_it_does_not_vanish_when_there_is_nothing_to_edit(same):
    assert_not_zero(same.g(uniform_sds(7.5)))


def test_a_constant_prediction_gives_nothing_only_if_it_is_the_noise(constant_prior):
    case = make_case(constant_prior)
    constant = case.e("target", "null")
    assert_close(case.g(uniform_sds(7.5)), constant - case.noise)
    assert_not_zero(constant - case.noise)
    assert_zero(replace(case, noise=constant).g(uniform_sds(7.5)))
