"""The way to a known truth, on pictures whose answer is known."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.metrics.truth import way

SHAPE = (2, 8, 8, 3)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    source, truth = torch.rand(2, *SHAPE, generator=generator)
    coverage = torch.zeros(SHAPE[:-1])
    coverage[:, :4] = 1.0
    return {"source": source, "truth": truth, "coverage": coverage}


def test_no_edit_is_0_the_truth_is_1_and_half_way_is_half(pictures):
    source, truth = pictures["source"], pictures["truth"]
    for share in (0.0, 0.5, 1.0, 2.0):
        expected = 1 - abs(1 - share)
        assert way(edit=source + share * (truth - source), **pictures) == pytest.approx(expected, abs=1e-6)
    assert way(edit=source - 0.3 * (truth - source), **pictures) == pytest.approx(-0.3, abs=1e-6)


def test_only_what_may_be_edited_counts(pictures):
    edit = pictures["truth"].clone()
    edit[:, 4:] = 0
    assert way(edit=edit, **pictures) == pytest.approx(1.0)
    assert way(edit=edit, **pictures | {"coverage": torch.full(SHAPE[:-1], 0.9)}) is None  # above 0.9


def test_the_nearest_draw_is_the_truth(pictures):
    draws = torch.stack([1 - pictures["source"], pictures["truth"]])
    assert way(edit=pictures["truth"], **pictures | {"truth": draws}) == pytest.approx(1.0)


def test_a_subtle_edit_counts_where_truth_and_source_differ(pictures):
    truth = pictures["source"].clone()
    truth[:, :2] += 0.2
    edit = truth.clone()
    edit[:, 2:] = 0  # in the mask, but where nothing should change
    given = pictures | {"truth": truth}
    assert way(edit=edit, **given, subtle=True) == pytest.approx(1.0)
    assert way(edit=edit, **given) < 0.5
    assert way(edit=edit, **given | {"truth": pictures["source"]}) is None  # no way to go


def test_pictures_of_other_views_are_refused(pictures):
    with pytest.raises(ValueError, match="not of the same views"):
        way(edit=pictures["source"][:1], **pictures)
