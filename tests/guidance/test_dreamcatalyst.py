"""DreamCatalyst: its weights across the schedule, and where it is zero."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

from gs_ssd.guidance import DDS, DreamCatalyst
from tests.guidance.stub import Stub, assert_zero, make_case


@pytest.mark.parametrize(
    "t, score, identity",
    [(201, 0.642541, 0.091605), (501, 0.819937, 0.123654), (901, 0.969585, 0.184470)],
)
def test_golden_weights(t, score, identity):
    case = make_case(Stub(), t=t)
    expected = score * case.g(DDS()) + identity * case.difference
    assert_close(case.g(DreamCatalyst()), expected, atol=1e-5, rtol=1e-5)


def test_with_unit_weight_and_no_identity_it_is_dds(case):
    assert_close(case.g(DreamCatalyst(delta=1, gamma=0, chi=0)), case.g(DDS()))


def test_it_vanishes_when_there_is_nothing_to_edit(same):
    assert_zero(same.g(DreamCatalyst()))
