"""SSD on InstructPix2Pix: equation 10, and how far its middle term is the cross-trajectory term."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.errors import UserError
from gs_ssd.guidance import SSDIP2P
from tests.guidance.stub import Stub, assert_not_zero


def test_it_is_equation_10(ip2p):
    e_t, e_i = ip2p.e("target", "target"), ip2p.e("target", "null")
    e_u, e_u_src = ip2p.e("target", "null", "none"), ip2p.e("source", "null", "none")
    identity = 0.075 * math.exp(ip2p.t_norm) * ip2p.alpha * ip2p.difference
    grad = ip2p.g(SSDIP2P())
    assert_close(grad, e_u + 1.5 * (e_i - e_u) + 7.5 * (e_t - e_i) - e_u_src + identity)
    trajectory = 1.5 * (e_i - e_u_src) + (1 - 1.5) * (e_u - e_u_src)
    assert_close(grad, 7.5 * (e_t - e_i) + trajectory + identity)


def test_its_middle_term_is_the_trajectory_at_unit_image_scale_or_on_an_unedited_image(ip2p):
    cross_prompt = 7.5 * (ip2p.e("target", "target") - ip2p.e("target", "null"))
    trajectory = ip2p.e("target", "null") - ip2p.e("source", "null", "none")
    assert_close(ip2p.g(SSDIP2P(s_i=1.0, w_id=0)), cross_prompt + trajectory)
    assert not torch.allclose(ip2p.g(SSDIP2P(s_i=1.5, w_id=0)), cross_prompt + 1.5 * trajectory)
    unedited = replace(ip2p, z_src=ip2p.z)
    trajectory = unedited.e("target", "null") - unedited.e("source", "null", "none")
    assert_close(unedited.g(SSDIP2P(s_i=1.5)), cross_prompt + 1.5 * trajectory)


def test_it_does_not_vanish_for_an_unedited_image(ip2p):
    e_t, e_i = ip2p.e("target", "target"), ip2p.e("target", "null")
    expected = 1.5 * (e_i - ip2p.e("target", "null", "none")) + 7.5 * (e_t - e_i)
    assert_close(replace(ip2p, z_src=ip2p.z).g(SSDIP2P()), expected)
    assert_not_zero(expected)


def test_only_a_prior_with_an_image_condition_fits():
    SSDIP2P().prepare(Stub(takes_image=True))
    with pytest.raises(UserError, match=r"ssd_ip2p and diffusion stub don't fit .* diffusion=ip2p"):
        SSDIP2P().prepare(Stub())
