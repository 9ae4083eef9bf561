"""A call on fixed buffers says what a call says: once for each set of shapes, with FreeU and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gs_ssd.diffusion.captured import LIMIT, CapturedNetwork
from gs_ssd.diffusion.load import TINY, load_prior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.guidance import CDS, DDS, SSD, VSD
from tests.diffusion.test_families import step_of


@pytest.mark.parametrize("name", TINY)
def test_every_family_predicts_the_same_through_buffers(name):
    plain, prior = load_prior(name, device="cpu"), load_prior(name, device="cpu", cuda_graph=True)
    assert isinstance(prior.shortcut, CapturedNetwork)
    for t, text, sign in ((499, "target", 1), (19, "source", 1), (499, "target", -1)):
        step = step_of(plain, t=t)
        ask = (sign * step.z_t, t, step.text[text], step.image)
        assert torch.equal(prior.predict_noise(*ask), plain.predict_noise(*ask))
    assert len(prior.shortcut.calls) == 1


def test_each_shape_and_freeu_state_has_its_own():
    prior = load_prior("tiny", device="cpu", cuda_graph=True, freeu=True)
    plain = load_prior("tiny", device="cpu", freeu=True)
    step = step_of(plain)
    for freeu in (False, True, False):
        ask = (step.z_t, step.t, step.text["target"])
        assert torch.equal(prior.predict_noise(*ask, freeu=freeu), plain.predict_noise(*ask, freeu=freeu))
    assert len(prior.shortcut.calls) == 2
    for count in range(2, LIMIT + 3):  # beyond the limit it is asked as usual
        z_t, text = step.z_t.repeat(count, 1, 1, 1), step.text["target"].expand(count).map(Tensor.contiguous)
        assert torch.equal(prior.predict_noise(z_t, 300, text), plain.predict_noise(z_t, 300, text))
    assert len(prior.shortcut.calls) == LIMIT


def test_an_output_is_not_overwritten_by_the_next_call():
    prior = load_prior("tiny", device="cpu", cuda_graph=True)
    step = step_of(prior)
    first = prior.predict_noise(step.z_t, 300, step.text["target"])
    kept = first.clone()
    prior.predict_noise(step.z_t, 700, step.text["source"])
    assert torch.equal(first, kept)


def test_gradients_hooks_and_adapters_go_around_it():
    prior, plain = load_prior("tiny", device="cpu", cuda_graph=True), load_prior("tiny", device="cpu")
    for guidance in (CDS(DDS()), VSD(), SSD()):
        grads = []
        for each in (prior, plain):
            own = type(guidance)(DDS()) if isinstance(guidance, CDS) else type(guidance)()
            own.prepare(each)
            grads.append(own(each, step_of(each)))
        assert_close(*grads)


def test_weights_that_moved_are_captured_anew():
    prior = load_prior("tiny", device="cpu", dtype="float16", cuda_graph=True)
    step = step_of(tiny_prior())
    ask = (step.z_t, 300, step.text["target"])
    before = prior.predict_noise(*ask)
    with prior.in_float32():
        assert prior.shortcut is None
        assert_close(prior.predict_noise(*ask), before, atol=0.02, rtol=0.02)
    assert not prior.shortcut.calls and torch.equal(prior.predict_noise(*ask), before)


def test_what_cannot_be_captured_is_asked_as_usual(monkeypatch):
    prior = load_prior("tiny", device="cpu", cuda_graph=True)
    step = step_of(prior)
    ask = (step.z_t, 300, step.text["target"])
    expected = load_prior("tiny", device="cpu").predict_noise(*ask)
    monkeypatch.setattr(
        "gs_ssd.diffusion.captured.BufferedCall.__init__",
        lambda *a: (_ for _ in ()).throw(RuntimeError("no")),
    )
    with pytest.warns(UserWarning, match="runs without a CUDA graph, it can't be captured: no"):
        assert torch.equal(prior.predict_noise(*ask), expected)
    assert torch.equal(prior.predict_noise(*ask), expected)  # and says so once


@pytest.mark.gpu
@pytest.mark.parametrize("freeu", [False, True])
def test_a_graph_on_cuda_says_what_the_network_says(freeu):
    plain = load_prior("tiny", device="cuda", dtype="float32", freeu=True)
    prior = load_prior("tiny", device="cuda", dtype="float32", freeu=True, cuda_graph=True)
    text = TextCondition.cat([prior.encode_prompt(["a clown"]), prior.encode_prompt(["a man"])])
    for t in (300, 700):
        z_t = torch.randn(2, 4, 8, 8, device="cuda")
        expected = plain.predict_noise(z_t, t, text, freeu=freeu)
        assert_close(prior.predict_noise(z_t, t, text, freeu=freeu), expected, atol=1e-4, rtol=1e-4)
    assert all(call is not None and call.graph is not None for call in prior.shortcut.calls.values())
