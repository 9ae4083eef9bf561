"""DreamCatalyst on InstructPix2Pix: its formula, and what is left of it on an unedited image."""

from __future__ import annotations

import math
from dataclasses import replace

from torch.testing import assert_close

from gs_ssd.guidance import DreamCatalystIP2P
from tests.guidance.stub import assert_zero


def test_it_is_the_published_formula(ip2p):
    e_t, e_i = ip2p.e("target", "target"), ip2p.e("target", "null")
    e_u, e_u_src = ip2p.e("target", "null", "none"), ip2p.e("source", "null", "none")
    edited = e_u + 1.5 * (e_i - e_u) + 7.5 * (e_t - e_i)
    source = e_u_src + 1.5 * (ip2p.e("source", "null") - e_u_src)
    weight = 0.2 + 0.8 * ip2p.t_norm ** (1 / math.e)
    identity = 0.075 * math.exp(ip2p.t_norm) * ip2p.difference
    assert_close(ip2p.g(DreamCatalystIP2P()), weight * (edited - source) + identity)


def test_an_unedited_image_feels_the_instruction_alone(ip2p):
    same = replace(ip2p, z_src=ip2p.z)
    weight = 0.2 + 0.8 * ip2p.t_norm ** (1 / math.e)
    text = 7.5 * (ip2p.e("target", "target") - ip2p.e("target", "null"))
    assert_close(same.g(DreamCatalystIP2P()), weight * text)
    assert_zero(same.g(DreamCatalystIP2P(s_t=0)))
    assert_zero(same.reworded(target="null").g(DreamCatalystIP2P()))
