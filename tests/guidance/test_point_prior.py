"""Where the methods lead: with e(z,c) = (z_t − √ᾱ X_c)/σ every gradient and fixed point has a closed form."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.guidance import CSD, DDS, SDS, SSD
from tests.guidance.stub import Case


def centres(point: Case) -> tuple[torch.Tensor, ...]:
    """X_y, X_ŷ, X_∅."""
    return tuple(point.prior.means[i] for i in range(3))


def at(point: Case, z: torch.Tensor, noise: torch.Tensor | None = None) -> Case:
    noise = point.noise if noise is None else noise
    return Case(point.prior, z, point.z_src, noise, point.text, point.t)


def test_sds_pulls_to_the_prompt_whatever_the_noise(point):
    x_y, _, _ = centres(point)
    sds = SDS(s=1, uniform=True)
    expected = point.k * (point.z - x_y)
    assert_close(point.g(sds), expected)
    assert_close(at(point, point.z, noise=point.noise.flip(0)).g(sds), expected)


def test_dds_moves_by_the_difference_of_the_prompts(point):
    x_y, x_src, _ = centres(point)
    shift = 7.5 * (x_y - x_src)
    assert_close(point.g(DDS(s=7.5)), point.k * (point.difference - shift))
    fixed = at(point, point.z_src + shift)
    assert_close(fixed.g(DDS(s=7.5)), torch.zeros_like(point.z), atol=1e-9, rtol=0)


@pytest.mark.parametrize("w_id", [0.0, 0.2])
def test_ssd_closed_form_and_fixed_point(point, w_id):
    x_y, x_src, x_null = centres(point)
    w_p, w_t, w_e = 3.75, 1.0, 5.5
    ssd = SSD(w_p=w_p, w_t=w_t, w_e=w_e, w_id=w_id, id_schedule="const")
    pull = w_t * (x_src - x_null) + w_p * (x_y - x_src) + w_e * (x_y - x_null)
    stiffness = w_t * point.k + w_id * point.alpha
    assert_close(point.g(ssd), stiffness * point.difference - point.k * pull)
    fixed = at(point, point.z_src + point.k * pull / stiffness)
    assert_close(fixed.g(ssd), torch.zeros_like(point.z), atol=1e-9, rtol=0)


@pytest.mark.parametrize("guidance", [SSD(w_t=0, w_id=0), CSD()])
def test_without_the_source_trajectory_nothing_holds_the_image(point, guidance):
    """The drift is the same wherever the image is, so nothing stops it: the saturation of the paper's Figure 5."""
    drift = point.g(guidance)
    assert_close(at(point, point.z + 10).g(guidance), drift)
    assert float(drift.abs().max()) > 0.1
