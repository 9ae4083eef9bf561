"""DDS: its parts, its relations to SDS and CSD, and where it is zero."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.testing import assert_close

from gs_ssd.guidance import CSD, DDS, SDS
from tests.guidance.stub import assert_zero


def test_it_splits_into_classifiers_and_drift(case):
    expected = 7.5 * (case.delta("target", "target") - case.delta("source", "source"))
    expected = expected + case.e("target", "null") - case.e("source", "null")
    assert_close(case.g(DDS(s=7.5)), expected)


def test_it_is_a_difference_of_two_sds(case):
    source, sds = replace(case, z=case.z_src).reworded(target="source"), SDS(s=7.5, uniform=True)
    assert_close(case.g(DDS(s=7.5)), case.g(sds) - source.g(sds))


def test_the_noise_acts_only_through_the_noisy_latents(case):
    """The ε that each SDS subtracts cancels; the ε in z_t and ẑ_t stays."""
    grad, other = case.g(DDS()), case.noise.flip(0)
    shift = (case.noise - other) / case.k
    same_noisy_latents = replace(case, z=case.z + shift, z_src=case.z_src + shift, noise=other)
    assert_close(same_noisy_latents.g(DDS()), grad)
    assert not torch.allclose(replace(case, noise=other).g(DDS()), grad)


def test_on_an_unedited_image_it_is_csd(case):
    unedited = replace(case, z_src=case.z)
    assert_close(unedited.g(DDS(s=7.5)), unedited.g(CSD(w_a=7.5, w_b=7.5)))
    assert_close(unedited.g(DDS(s=7.5)), 7.5 * (case.e("target", "target") - case.e("target", "source")))


def test_it_vanishes_when_there_is_nothing_to_edit(same):
    assert_zero(same.g(DDS()))
