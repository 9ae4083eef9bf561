"""NFSD: both sides of its threshold, and where it is zero."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

from gs_ssd.guidance import CSD, NFSD, SDS
from tests.guidance.stub import Stub, assert_not_zero, make_case


def test_below_the_threshold_it_is_sds_with_the_noise_left_in():
    case = make_case(Stub(), t=199)
    assert_close(case.g(NFSD(s=7.5)) - case.g(SDS(s=7.5, uniform=True)), case.noise)
    assert_close(case.g(NFSD(s=1)), case.e("target", "target"))


@pytest.mark.parametrize("t", [200, 501, 981])
def test_above_the_threshold_it_is_csd_and_what_the_negative_prompt_removes(t):
    case = make_case(Stub(), t=t)
    generation = case.g(CSD(w_a=7.5, w_b=0))
    expected = generation + case.e("target", "null") - case.e("target", "negative")
    assert_close(case.g(NFSD(s=7.5)), expected)
    assert_close(case.g(NFSD(s=7.5, uniform=False)), case.sigma**2 * expected)
    assert_close(case.reworded(negative="null").g(NFSD(s=7.5)), generation)


def test_the_sides_of_the_threshold_differ_by_the_negative_prediction():
    case = make_case(Stub(), t=200)
    assert_close(case.g(NFSD(threshold=0.201)) - case.g(NFSD(threshold=0.2)), case.e("target", "negative"))


def test_it_does_not_vanish_when_there_is_nothing_to_edit(same):
    assert_not_zero(same.g(NFSD()))


def test_below_the_threshold_a_constant_prediction_stays(constant_prior):
    case = make_case(constant_prior, t=199)
    assert_close(case.g(NFSD()), case.e("target", "null"))
