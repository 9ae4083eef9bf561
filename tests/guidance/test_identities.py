"""Algebraic relations between the methods; they hold for any noise predictor."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from gs_ssd.guidance import CSD, DDS, NFSD, PDS, SDS, SSD, SSDIP2P, Conditions, DreamCatalyst
from tests.guidance.stub import Case, Stub, make_case

WEIGHTS = {"w_p": 0.0, "w_t": 0.0, "w_e": 0.0, "w_id": 0.0}


def ssd(**weights: float) -> SSD:
    return SSD(**WEIGHTS | weights)


def uniform_sds(s: float) -> SDS:
    return SDS(s=s, uniform=True)


def t_norm(case: Case) -> float:
    return (case.t - 1) / 1000


# SSD


def test_equation_5_is_equation_6(case):
    expected = (
        case.e("target", "source")
        + 7.5 * (case.e("target", "target") - case.e("target", "source"))
        - case.e("source", "null")
    )
    assert_close(case.g(ssd(w_p=7.5, w_t=1)), expected)


def test_default_is_the_published_code(case):
    cross_prompt = case.e("target", "target") - case.e("target", "source")
    cross_trajectory = case.e("target", "source") - case.e("source", "null")
    noisy_difference = case.alpha_bar**0.5 * case.difference
    expected = (
        7.5 / 2 * cross_prompt
        + 2.0 / 2 * cross_trajectory
        + 5.5 * case.delta("target", "target")
        + 0.075 * math.exp(t_norm(case)) * noisy_difference
    )
    assert_close(case.g(SSD()), expected)


def test_without_trajectory_and_align_it_is_csd(case):
    assert_close(case.g(ssd(w_p=7.5)), case.g(CSD(w_a=7.5, w_b=7.5)))
    assert_close(case.g(ssd(w_p=3.0, w_e=2.0)), case.g(CSD(w_a=5.0, w_b=3.0)))


def test_align_alone_is_generation_csd(case):
    expected = 5.5 * case.delta("target", "target")
    assert_close(case.g(ssd(w_e=5.5)), expected)
    assert_close(case.g(CSD(w_a=5.5, w_b=0)), expected)


def test_with_an_empty_source_prompt_it_is_dds(case):
    text = case.conditions.text | {"source": case.conditions.text["null"]}
    case = Case(case.prior, case.z, case.z_src, case.noise, Conditions(text), case.t)
    assert_close(case.g(ssd(w_p=7.5, w_t=1)), case.g(DDS(s=7.5)))
    assert_close(case.g(ssd(w_p=7.5, w_t=1, w_e=2)), case.g(ssd(w_p=9.5, w_t=1)))


weight = st.floats(-10, 10)


@settings(max_examples=25, deadline=None)
@given(a=st.tuples(*[weight] * 4), b=st.tuples(*[weight] * 4))
def test_ssd_is_linear_in_its_weights(a, b):
    case = make_case(Stub())
    total = [x + y for x, y in zip(a, b)]
    g_a, g_b, g_ab = (case.g(SSD(**dict(zip(WEIGHTS, w)))) for w in (a, b, total))
    assert_close(g_a + g_b, g_ab, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind, factor", [("exp", math.exp), ("linear", float), ("const", lambda _: 1.0)])
def test_identity_schedules(case, kind, factor):
    grad = case.g(SSD(**WEIGHTS | {"w_id": 0.3}, id_schedule=kind))
    assert_close(grad, 0.3 * factor(t_norm(case)) * case.alpha_bar**0.5 * case.difference)


def test_unknown_identity_schedule_names_the_known_ones():
    with pytest.raises(ValueError, match=r"cosine.*exp, linear, const"):
        SSD(id_schedule="cosine")


# The rest of the family


def test_sds_splits_into_residual_and_classifier(case):
    expected = (case.e("target", "null") - case.noise) + 7.5 * case.delta("target", "target")
    assert_close(case.g(uniform_sds(7.5)), expected)
    assert_close(case.g(SDS(s=7.5)), case.sigma**2 * expected)


def test_sds_is_the_residual_to_the_denoised_latent(case):
    eps = case.cfg("target", "target", 7.5)
    z_t = case.alpha_bar**0.5 * case.z + case.sigma * case.noise
    denoised = (z_t - case.sigma * eps) / case.alpha_bar**0.5
    assert_close(case.g(uniform_sds(7.5)), case.k * (case.z - denoised))


def test_dreamfusions_convention_is_one_more(case):
    eps = case.e("target", "target") + 100 * case.delta("target", "target")
    assert_close(case.g(uniform_sds(101)), eps - case.noise)


def test_dds_splits_into_classifiers_and_drift(case):
    expected = 7.5 * (case.delta("target", "target") - case.delta("source", "source"))
    expected = expected + case.e("target", "null") - case.e("source", "null")
    assert_close(case.g(DDS(s=7.5)), expected)


def test_dds_is_a_difference_of_two_sds(case):
    text = case.conditions.text | {"target": case.conditions.text["source"]}
    source = Case(case.prior, case.z_src, case.z_src, case.noise, Conditions(text), case.t)
    assert_close(case.g(DDS(s=7.5)), case.g(uniform_sds(7.5)) - source.g(uniform_sds(7.5)))


def test_dds_of_an_unedited_image_is_csd(case):
    unedited = Case(case.prior, case.z, case.z, case.noise, case.conditions, case.t)
    assert_close(unedited.g(DDS(s=7.5)), case.g(CSD(w_a=7.5, w_b=7.5)))


def test_nfsd_below_the_threshold():
    case = make_case(Stub(), t=199)
    assert_close(case.g(NFSD(s=7.5)) - case.g(uniform_sds(7.5)), case.noise)
    assert_close(case.g(NFSD(s=1)), case.e("target", "target"))


@pytest.mark.parametrize("t", [200, 501, 981])
def test_nfsd_above_the_threshold(t):
    case = make_case(Stub(), t=t)
    generation = case.g(CSD(w_a=7.5, w_b=0))
    expected = generation + case.e("target", "null") - case.e("target", "negative")
    assert_close(case.g(NFSD(s=7.5)), expected)
    assert_close(case.g(NFSD(s=7.5, uniform=False)), case.sigma**2 * expected)
    text = case.conditions.text | {"negative": case.conditions.text["null"]}
    empty = Case(case.prior, case.z, case.z_src, case.noise, Conditions(text), t)
    assert_close(empty.g(NFSD(s=7.5)), generation)


def test_pds_matches_the_stochastic_latents_of_the_posterior(case):
    """G = ζ_tgt − ζ_src, written out as the method defines it, with its second noise ε'."""
    schedule, t, s = case.prior.schedule, case.t, 100.0
    alpha_bar, alpha_bar_p = schedule.alpha_bar(t), schedule.alpha_bar(t - 2)
    alpha = alpha_bar / schedule.alpha_bar(t - 1)
    beta = 1 - alpha
    spread = ((1 - alpha_bar_p) / (1 - alpha_bar) * beta) ** 0.5
    second_noise = torch.randn(case.z.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def stochastic_latent(clean, eps):
        z_t = alpha_bar**0.5 * clean + case.sigma * case.noise
        denoised = (z_t - case.sigma * eps) / alpha_bar**0.5
        mean = alpha_bar_p**0.5 * beta / (1 - alpha_bar) * denoised
        mean = mean + alpha**0.5 * (1 - alpha_bar_p) / (1 - alpha_bar) * z_t
        return (alpha_bar_p**0.5 * clean + (1 - alpha_bar_p) ** 0.5 * second_noise - mean) / spread

    target = stochastic_latent(case.z, case.cfg("target", "target", s))
    source = stochastic_latent(case.z_src, case.cfg("source", "source", s))
    assert_close(case.g(PDS(s=s)), target - source, atol=1e-8, rtol=1e-8)


def test_pds_with_a_consistent_step_is_scaled_dds(case):
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
def test_pds_golden_factors(t, psi, chi):
    assert PDS().factors(t, Stub().schedule) == pytest.approx((psi, chi), abs=1e-6)


def test_pds_needs_an_earlier_timestep():
    with pytest.raises(ValueError, match="t = 0"):
        PDS().factors(0, Stub().schedule)


@pytest.mark.parametrize(
    "t, score, identity",
    [(201, 0.642541, 0.091605), (501, 0.819937, 0.123654), (901, 0.969585, 0.184470)],
)
def test_dreamcatalyst_golden_weights(t, score, identity):
    case = make_case(Stub(), t=t)
    expected = score * case.g(DDS()) + identity * case.difference
    assert_close(case.g(DreamCatalyst()), expected, atol=1e-5, rtol=1e-5)


def test_ssds_identity_term_is_dreamcatalysts_on_the_noisy_latents(case):
    ssd_term = case.g(ssd(w_id=0.075))
    dreamcatalyst = DreamCatalyst(delta=0, gamma=0, chi=0.075)
    assert_close(ssd_term, case.alpha_bar**0.5 * case.g(dreamcatalyst))


# InstructPix2Pix


def test_ip2p_is_equation_10(ip2p):
    e_t, e_i = ip2p.e("target", "target"), ip2p.e("target", "null")
    e_u, e_u_src = ip2p.e("target", "null", "none"), ip2p.e("source", "null", "none")
    identity = 0.075 * math.exp(t_norm(ip2p)) * ip2p.alpha_bar**0.5 * ip2p.difference
    grad = ip2p.g(SSDIP2P())
    assert_close(grad, e_u + 1.5 * (e_i - e_u) + 7.5 * (e_t - e_i) - e_u_src + identity)
    trajectory = 1.5 * (e_i - e_u_src) + (1 - 1.5) * (e_u - e_u_src)
    assert_close(grad, 7.5 * (e_t - e_i) + trajectory + identity)


def test_ip2p_middle_term_is_the_trajectory_only_at_unit_image_scale(ip2p):
    cross_prompt = 7.5 * (ip2p.e("target", "target") - ip2p.e("target", "null"))
    trajectory = ip2p.e("target", "null") - ip2p.e("source", "null", "none")
    assert_close(ip2p.g(SSDIP2P(s_i=1.0, w_id=0)), cross_prompt + trajectory)
    assert not torch.allclose(ip2p.g(SSDIP2P(s_i=1.5, w_id=0)), cross_prompt + 1.5 * trajectory)


# No edit, and a predictor that knows nothing


@pytest.mark.parametrize("guidance", [DDS(), CSD(), PDS(), DreamCatalyst(), ssd(w_id=0.075)])
def test_these_vanish_when_there_is_nothing_to_edit(same, guidance):
    assert_close(same.g(guidance), torch.zeros_like(same.z), atol=1e-12, rtol=0)


def test_csd_vanishes_for_equal_prompts_wherever_the_image_is(same):
    assert_close(make_elsewhere(same).g(CSD()), torch.zeros_like(same.z))


def make_elsewhere(case: Case) -> Case:
    return Case(case.prior, case.z + 1, case.z_src, case.noise, case.conditions, case.t)


def test_ssd_does_not_vanish_when_there_is_nothing_to_edit(same):
    expected = (1.0 + 5.5) * same.delta("target", "target")
    assert_close(same.g(SSD()), expected)
    assert float(expected.abs().max()) > 0.1


def test_ip2p_does_not_vanish_for_an_unedited_image(ip2p):
    unedited = Case(ip2p.prior, ip2p.z, ip2p.z, ip2p.noise, ip2p.conditions, ip2p.t)
    e_t, e_i, e_u = (
        unedited.e("target", "target"),
        unedited.e("target", "null"),
        unedited.e("target", "null", "none"),
    )
    assert_close(unedited.g(SSDIP2P()), 1.5 * (e_i - e_u) + 7.5 * (e_t - e_i))


@pytest.mark.parametrize("guidance", [DDS(), CSD(), CSD(w_b=0), ssd(w_p=3.75, w_t=1, w_e=5.5), NFSD()])
def test_a_constant_predictor_gives_nothing(constant_prior, guidance):
    case = make_case(constant_prior)
    assert_close(case.g(guidance), torch.zeros_like(case.z), atol=1e-12, rtol=0)


def test_a_constant_predictor_shows_what_is_not_noise_free(constant_prior):
    case = make_case(constant_prior, t=199)
    constant = case.e("target", "null")
    assert_close(case.g(NFSD()), constant)
    assert_close(case.g(uniform_sds(100)), constant - case.noise, atol=1e-10, rtol=1e-10)
    psi, _ = PDS().factors(199, case.prior.schedule)
    assert_close(case.g(PDS()), psi * case.difference, atol=1e-10, rtol=1e-10)
