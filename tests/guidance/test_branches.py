"""Which predictions a method asks for, how often, and what the gradient does with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.guidance import (
    CSD,
    DDS,
    NFSD,
    PDS,
    SDS,
    SSD,
    SSDIP2P,
    Branch,
    DreamCatalyst,
    DreamCatalystIP2P,
    inject_gradient,
)
from gs_ssd.guidance.base import predict_branches
from tests.guidance.stub import Case, Stub, assert_zero, make_case

TARGET_COLUMNS = {"y": "target", "ŷ": "source", "∅": "null", "n": "negative"}
PSI, CHI = PDS().factors(501, Stub().schedule)

# Rows of the coefficient table: e(z,y) e(z,ŷ) e(z,∅) e(z,n) e(ẑ,ŷ) e(ẑ,∅), then a_ε and w(t).
TABLE = [
    (SDS(s=100, uniform=True), 501, [100, 0, -99, 0, 0, 0], -1, 1),
    (DDS(s=7.5), 501, [7.5, 0, -6.5, 0, -7.5, 6.5], 0, 1),
    (CSD(w_a=7.5, w_b=0), 501, [7.5, 0, -7.5, 0, 0, 0], 0, 1),
    (CSD(w_a=5, w_b=2), 501, [5, -2, -3, 0, 0, 0], 0, 1),
    (NFSD(s=7.5), 200, [7.5, 0, -6.5, -1, 0, 0], 0, 1),
    (NFSD(s=7.5, threshold=0.5), 499, [7.5, 0, -6.5, 0, 0, 0], 0, 1),
    (NFSD(s=7.5), 199, [7.5, 0, -6.5, 0, 0, 0], 0, 1),
    (SSD(w_p=7.5, w_t=1, w_e=2), 501, [9.5, -6.5, -2, 0, 0, -1], 0, 1),
    (SSD(), 501, [9.25, -2.75, -5.5, 0, 0, -1], 0, 1),
    (PDS(s=100), 501, [100, 0, -99, 0, -100, 99], 0, CHI),
    (DreamCatalyst(s=7.5), 501, [7.5, 0, -6.5, 0, -7.5, 6.5], 0, 0.2 + 0.8 * 0.5**0.36787944117),
]


@pytest.mark.parametrize("guidance, t, row, noise, weight", TABLE, ids=lambda v: getattr(v, "name", None))
def test_coefficient_table(guidance, t, row, noise, weight):
    branches = [Branch("target", prompt) for prompt in TARGET_COLUMNS.values()]
    branches += [Branch("source", "source"), Branch("source", "null")]
    schedule = Stub().schedule
    coefficients = guidance.coefficients(t, schedule)
    assert set(coefficients) <= set(branches)
    assert [coefficients.get(branch, 0) for branch in branches] == row
    assert guidance.noise_coefficient() == noise
    assert guidance.weight(t, schedule) == pytest.approx(weight)
    noise_free = not (isinstance(guidance, NFSD) and t < 1000 * guidance.threshold)
    assert sum(coefficients.values()) + noise == (0 if noise_free else 1)


def test_ip2p_coefficients():
    coefficients = SSDIP2P().coefficients(501, Stub().schedule)
    assert list(coefficients.values()) == [7.5, -6.0, -0.5, -1.0]
    assert sum(coefficients.values()) == 0


@pytest.mark.parametrize(
    "guidance",
    [
        *(DDS(), CSD(), CSD(w_b=0), SSD(w_id=0), NFSD(), DreamCatalyst(chi=0), PDS(stride=1)),
        *(SSDIP2P(w_id=0), DreamCatalystIP2P(chi=0)),
    ],
)
def test_a_constant_predictor_gives_nothing(constant_prior, guidance):
    assert_zero(make_case(constant_prior).g(guidance))


class Bound(Stub):
    """The stub with an image condition that it adds by itself."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = image

    def predict_noise(self, z_t, t, text, image=None, *, freeu=False):
        return super().predict_noise(z_t, t, text, self.image.repeat(len(z_t) // len(self.image), 1, 1, 1))


@pytest.mark.parametrize("guidance", [SDS(), DDS(), CSD(), NFSD(), SSD(), PDS(), DreamCatalyst()])
def test_with_an_image_condition_every_prediction_of_a_text_method_sees_the_source(ip2p, guidance):
    guidance.prepare(ip2p.prior)
    expected = replace(ip2p, prior=Bound(ip2p.image)).g(guidance)
    assert_close(ip2p.g(guidance), expected)
    assert not torch.allclose(expected, replace(ip2p, prior=Stub()).g(guidance))


COUNTS = [
    (SDS(), 501, 2),
    (DDS(), 501, 4),
    (CSD(), 501, 2),
    (CSD(w_b=0), 501, 2),
    (CSD(w_a=5, w_b=2), 501, 3),
    (NFSD(), 199, 2),
    (NFSD(), 200, 3),
    (SSD(), 501, 4),
    (SSD(w_e=0), 501, 3),
    (SSD(w_e=0, w_t=0), 501, 2),
    (SSD(w_t=3.75), 501, 3),
    (PDS(), 501, 4),
    (DreamCatalyst(), 501, 4),
]


@pytest.mark.parametrize("guidance, t, count", COUNTS, ids=lambda v: getattr(v, "name", None))
def test_everything_is_predicted_in_one_batch(guidance, t, count):
    case = make_case(Stub(), t=t)
    case.g(guidance)
    assert case.prior.batches == [count * len(case.z)]
    assert guidance.evaluations(t, case.prior.schedule) == count


def test_ip2p_needs_four(ip2p):
    ip2p.g(SSDIP2P())
    assert ip2p.prior.batches == [4 * len(ip2p.z)]


def test_a_method_without_predictions_asks_for_none():
    case = make_case(Stub())
    case.g(SSD(w_p=0, w_t=0, w_e=0))
    assert case.prior.batches == []


def test_duplicates_are_predicted_once():
    case = make_case(Stub())
    branches = [Branch("target", "target"), Branch("source", "null"), Branch("target", "target")]
    predictions = predict_branches(case.prior, branches, case.step)
    assert case.prior.batches == [2 * len(case.z)]
    for branch, eps in predictions.items():
        assert_close(eps, case.e(branch.latent, branch.prompt))


@pytest.mark.parametrize("guidance", [SDS(), DDS(), CSD(), NFSD(), SSD(), PDS(), DreamCatalyst()])
def test_a_batch_is_its_images_one_by_one(guidance):
    case = make_case(Stub())
    together = case.g(guidance)
    assert together.shape == case.z.shape
    for i in range(len(case.z)):
        one = Case(case.prior, case.z[[i]], case.z_src[[i]], case.noise[[i]], case.text, case.t)
        assert_close(one.g(guidance), together[[i]])


def test_the_surrogates_gradient_is_g_over_the_batch():
    case = make_case(Stub())
    grad = case.g(SSD())
    z = case.z.clone().requires_grad_()
    loss = inject_gradient(z, grad)
    loss.backward()
    assert_close(z.grad, grad / len(z))
    assert_close(loss.detach(), 0.5 * grad.pow(2).sum() / len(z))


def test_no_gradient_passes_the_predictor():
    case = make_case(Stub())
    z, z_src = case.z.clone().requires_grad_(), case.z_src.clone().requires_grad_()
    grad = Case(case.prior, z, z_src, case.noise, case.text, case.t).g(SSD())
    assert not grad.requires_grad
    inject_gradient(z, grad).backward()
    assert z_src.grad is None


def test_float32_stays_float32():
    case = make_case(Stub())
    tensors = (x.float() for x in (case.z, case.z_src, case.noise))
    assert Case(case.prior, *tensors, case.text, case.t).g(PDS()).dtype == torch.float32
