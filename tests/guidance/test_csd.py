"""CSD: its two forms, and where they are zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch.testing import assert_close

from gs_ssd.guidance import CSD
from tests.guidance.stub import assert_not_zero, assert_zero


@pytest.mark.parametrize("w_a, w_b", [(7.5, 7.5), (5, 2), (7.5, 0)])
def test_it_is_a_difference_of_classifiers(case, w_a, w_b):
    """Equation 3 of the SSD paper; w_b = 0 is the generating form."""
    expected = w_a * case.delta("target", "target") - w_b * case.delta("target", "source")
    assert_close(case.g(CSD(w_a=w_a, w_b=w_b)), expected)


def test_it_vanishes_for_equal_prompts_wherever_the_image_is(same):
    assert_zero(same.g(CSD()))
    assert_zero(replace(same, z=same.z + 1).g(CSD()))


def test_its_generating_form_can_weigh_as_the_authors_do(case):
    """Their code multiplies by w(t) = 1 − ᾱ_t, which is 0.02 at t = 21 and 0.99 at t = 981."""
    expected = (1 - case.alpha**2) * 7.5 * case.delta("target", "target")
    assert_close(case.g(CSD(w_b=0, uniform=False)), expected)


def test_its_generating_form_does_not_vanish_when_there_is_nothing_to_edit(same):
    assert_not_zero(same.g(CSD(w_b=0)))
