"""Steps of an edit across the schedule, with the stub, an image condition, and the point prior."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.prior import DiffusionPrior
from tests.guidance.stub import SHAPE, Case, Stub, make_case


@pytest.fixture(params=[21, 199, 200, 501, 981])
def case(request) -> Case:
    """A step with the stub, across the schedule."""
    return make_case(Stub(), t=request.param)


@pytest.fixture
def same(case) -> Case:
    """The same with an unedited image and equal prompts: z = ẑ and y = ŷ."""
    return replace(case, z_src=case.z).reworded(source="target")


@pytest.fixture(params=[201, 901])
def ip2p(request) -> Case:
    """A step with an image condition."""
    return make_case(Stub(takes_image=True), t=request.param)


@pytest.fixture(params=[21, 501, 981])
def point(request) -> Case:
    """A step with the point prior, e(z,c) = (z_t − α X_c)/σ."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn((4, *SHAPE[1:]), generator=generator, dtype=torch.float64)
    prior = GaussianPrior(dict(zip(("target", "source", "", "negative"), centres)))
    return make_case(prior, t=request.param)


@pytest.fixture
def constant_prior() -> DiffusionPrior:
    """Predicts the same tensor whatever it is asked."""

    class Constant(Stub):
        def predict_noise(self, z_t, t, text, image=None, *, freeu=False):
            return torch.linspace(-1, 1, z_t[0].numel(), dtype=z_t.dtype).reshape(z_t[0].shape).expand_as(z_t)

    return Constant()
