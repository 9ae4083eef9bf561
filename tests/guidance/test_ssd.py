"""SSD: the paper's equations and the published code, the methods it contains, and where it is zero."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.errors import UserError
from gs_ssd.guidance import CSD, DDS, SSD, DreamCatalyst
from tests.guidance.stub import Stub, assert_not_zero, assert_zero, make_case

WEIGHTS = {"w_p": 0.0, "w_t": 0.0, "w_e": 0.0, "w_id": 0.0}


def ssd(**weights: float) -> SSD:
    """Only the named terms."""
    return SSD(**WEIGHTS | weights)


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
    noisy_difference = case.alpha * case.difference
    expected = (
        7.5 / 2 * cross_prompt
        + 2.0 / 2 * cross_trajectory
        + 5.5 * case.delta("target", "target")
        + 0.075 * math.exp(case.t_norm) * noisy_difference
    )
    assert_close(case.g(SSD()), expected)


def test_without_trajectory_and_align_it_is_csd(case):
    assert_close(case.g(ssd(w_p=7.5)), case.g(CSD(w_a=7.5, w_b=7.5)))
    assert_close(case.g(ssd(w_p=3.0, w_e=2.0)), case.g(CSD(w_a=5.0, w_b=3.0)))


def test_align_alone_is_generation_csd(case):
    assert_close(case.g(ssd(w_e=5.5)), 5.5 * case.delta("target", "target"))
    assert_close(case.g(ssd(w_e=5.5)), case.g(CSD(w_a=5.5, w_b=0)))


def test_with_an_empty_source_prompt_it_is_dds(case):
    case = case.reworded(source="null")
    assert_close(case.g(ssd(w_p=7.5, w_t=1)), case.g(DDS(s=7.5)))
    assert_close(case.g(ssd(w_p=7.5, w_t=1, w_e=2)), case.g(ssd(w_p=9.5, w_t=1)))


weight = st.floats(-10, 10)


@settings(max_examples=25, deadline=None)
@given(a=st.tuples(*[weight] * 4), b=st.tuples(*[weight] * 4))
def test_it_is_linear_in_its_weights(a, b):
    case = make_case(Stub())
    total = [x + y for x, y in zip(a, b)]
    g_a, g_b, g_ab = (case.g(SSD(**dict(zip(WEIGHTS, w)))) for w in (a, b, total))
    assert_close(g_a + g_b, g_ab, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind, factor", [("exp", math.exp), ("linear", float), ("const", lambda _: 1.0)])
def test_identity_schedules(case, kind, factor):
    grad = case.g(SSD(**WEIGHTS | {"w_id": 0.3}, id_schedule=kind))
    assert_close(grad, 0.3 * factor(case.t_norm) * case.alpha * case.difference)


def test_unknown_identity_schedule_names_the_known_ones():
    with pytest.raises(ValueError, match=r"cosine.*exp, linear, const"):
        SSD(id_schedule="cosine")


def test_its_identity_term_is_dreamcatalysts_on_the_noisy_latents(case):
    dreamcatalyst = DreamCatalyst(delta=0, gamma=0, chi=0.075)
    assert_close(case.g(ssd(w_id=0.075)), case.alpha * case.g(dreamcatalyst))


def test_when_there_is_nothing_to_edit_the_target_classifier_is_left(same):
    expected = (1.0 + 5.5) * same.delta("target", "target")
    assert_close(same.g(SSD()), expected)
    assert_not_zero(expected)


def test_it_vanishes_when_that_classifier_does_too(same):
    assert_zero(same.reworded(target="null", source="null").g(SSD()))
    assert_zero(same.g(SSD(w_t=2.0, w_e=-2.0)))
    assert_zero(same.g(ssd(w_id=0.075)))


def test_without_prompts_an_edited_image_still_feels_its_trajectory(case):
    case = case.reworded(target="null", source="null")
    assert_close(case.g(SSD(w_id=0)), case.e("target", "null") - case.e("source", "null"))
    assert_not_zero(case.g(SSD(w_id=0)))


def changes(score: torch.Tensor, case) -> torch.Tensor:
    """What a score asks the whole change to be: its gradient is (α/σ)((z − ẑ) − change)."""
    return case.difference - case.prior.schedule.sigma(case.t) / case.alpha * score


def test_what_is_asked_to_change_little_is_held_at_the_source(case):
    assert_close(case.g(SSD(hold=1e-9)), case.g(SSD()))
    home = case.alpha / case.prior.schedule.sigma(case.t) * case.difference
    assert_close(case.g(SSD(hold=1e9, w_id=0)), home)
    identity = case.g(SSD()) - case.g(SSD(w_id=0))
    assert_close(case.g(SSD(hold=1e9)), home + identity)


def test_a_held_change_is_the_garrote_of_the_asked_one(case):
    asked = changes(case.g(SSD(w_id=0)), case)
    length = asked.norm(dim=1, keepdim=True)
    hold = length.mean().item()
    share = (1 - (hold / length) ** 2).clamp_min(0)
    assert (share > 0).any() and (share == 0).any()
    assert_close(changes(case.g(SSD(w_id=0, hold=hold)), case), share * asked)


def test_what_can_not_be_held_is_refused():
    with pytest.raises(UserError, match=r"guidance.hold=-1"):
        SSD(hold=-1)
    flow = Stub()
    flow.schedule = NoiseSchedule.rectified_flow()
    SSD(hold=0.5).prepare(flow)
    with pytest.raises(UserError, match=r"guidance.hold=0.5 needs guidance.form=epsilon"):
        SSD(hold=0.5, form="velocity").prepare(flow)
