"""The velocity form on rectified-flow priors, against the Gaussian prior written out in both parametrisations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.errors import UserError
from gs_ssd.guidance import DDS, SSD
from tests.guidance.stub import SHAPE, Case, Stub, assert_zero, make_case


@pytest.fixture(params=[(0.0, 100), (0.0, 700), (0.8, 100), (0.8, 700)], ids=str)
def flow(request) -> Case:
    """A step with Gaussians of a width at a timestep of a rectified flow."""
    std, t = request.param
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn((4, *SHAPE[1:]), generator=generator, dtype=torch.float64)
    prior = GaussianPrior(
        dict(zip(("target", "source", "", "negative"), centres)),
        std=std,
        schedule=NoiseSchedule.rectified_flow(shift=3.0),
    )
    return make_case(prior, t=t)


def velocity(case: Case, latent: str, prompt: str) -> torch.Tensor:
    """E[ε − z | z_t] of the Gaussian N(X, s²), by conditioning, without the prior's ε."""
    index = {"target": 0, "source": 1, "null": 2}[prompt]
    mean, var = case.prior.means[index], case.prior.std**2
    z_t = case.alpha * (case.z if latent == "target" else case.z_src) + case.sigma * case.noise
    residual = (z_t - case.alpha * mean) / (case.alpha**2 * var + case.sigma**2)
    return case.sigma * residual - (mean + case.alpha * var * residual)


def test_epsilon_and_velocity_of_the_closed_form_agree(flow):
    z_t = flow.alpha * flow.z + flow.sigma * flow.noise
    assert_close(flow.e("target", "target"), z_t + flow.alpha * velocity(flow, "target", "target"))


def test_dds_in_velocities(flow):
    v = {(z, c): velocity(flow, z, c) for z in ("target", "source") for c in ("target", "source", "null")}
    target = v["target", "null"] + 7.5 * (v["target", "target"] - v["target", "null"])
    source = v["source", "null"] + 7.5 * (v["source", "source"] - v["source", "null"])
    assert_close(flow.g(DDS(form="velocity")), target - source)


def test_ssd_in_velocities(flow):
    v = {(z, c): velocity(flow, z, c) for z in ("target", "source") for c in ("target", "source", "null")}
    y, y_src, null = v["target", "target"], v["target", "source"], v["target", "null"]
    expected = 3.75 * (y - y_src) + 1.0 * (y_src - v["source", "null"]) + 5.5 * (y - null)
    assert_close(flow.g(SSD(w_id=0, form="velocity")), expected)
    identity = flow.g(SSD(form="velocity")) - expected
    assert_close(identity, flow.g(SSD(w_p=0, w_t=0, w_e=0)))


@pytest.mark.parametrize(
    "method, total", [(DDS, 1.0), (lambda **k: SSD(w_id=0, **k), 1.0)], ids=["dds", "ssd"]
)
def test_the_forms_differ_by_a_factor_and_an_identity_term(flow, method, total):
    difference = flow.alpha * flow.g(method(form="velocity")) - flow.g(method())
    assert_close(difference, -total * flow.alpha * flow.difference)


def test_where_dds_rests(flow):
    """The form in ε rests at the prompts' difference whatever t is; the form in v at more, or nowhere."""
    shift = flow.prior.means[0] - flow.prior.means[1]
    assert_zero(replace(flow, z=flow.z_src + shift).g(DDS(s=1)))
    spread = flow.alpha**2 * flow.prior.std**2 + flow.sigma**2
    rest = shift * flow.sigma / (flow.sigma - spread)
    assert_zero(replace(flow, z=flow.z_src + rest).g(DDS(s=1, form="velocity")))
    if flow.prior.std == 0:
        assert_close(rest, shift / (1 - flow.sigma))


def test_it_is_for_rectified_flows():
    with pytest.raises(UserError, match=r"form=velocity is for rectified-flow models.* stub is none"):
        DDS(form="velocity").prepare(Stub())
    with pytest.raises(ValueError, match="form='v' is none of epsilon, velocity"):
        SSD(form="v")
