"""The trace of a small UNet says what the UNet says."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.diffusion.traced import TracedUNet, worth_tracing


def test_the_embedded_prior_is_traced_and_predicts_the_same_at_any_time_batch_and_size():
    prior = load_prior("embedded", device="cpu", traced=True)
    assert prior.shortcut is not None
    text = prior.encode_prompt(["a photo of a man", "a photo of a clown", ""])
    generator = torch.Generator().manual_seed(0)
    for t, batch, height, width in ((500, 3, 16, 16), (20, 1, 16, 16), (980, 2, 24, 12), (300, 3, 16, 16)):
        z_t = torch.randn(batch, prior.latent_channels, height, width, generator=generator)
        words = text.map(lambda x, n=batch: x[:n])
        found = prior.predict_noise(z_t, t, words)
        traced, prior.shortcut = prior.shortcut, None
        assert_close(found, prior.predict_noise(z_t, t, words), atol=1e-5, rtol=1e-5)
        prior.shortcut = traced


def test_freeu_and_gradients_go_around_the_trace():
    plain, prior = tiny_prior(freeu=True), tiny_prior(freeu=True)
    prior.shortcut = TracedUNet(prior)
    text, z_t = prior.encode_prompt(["a clown"]), torch.randn(1, 4, 8, 8)
    for freeu in (False, True):
        expected = plain.predict_noise(z_t, 300, text, freeu=freeu)
        assert_close(prior.predict_noise(z_t, 300, text, freeu=freeu), expected, atol=1e-5, rtol=1e-5)
    z_t.requires_grad_()
    prior.network_output(z_t, 300, text).sum().backward()
    assert z_t.grad is not None
    assert len(prior.attention_features(z_t, 300, text)) == 2


def test_only_small_networks_in_float32_are_worth_it():
    assert worth_tracing(tiny_prior().network)
    assert not worth_tracing(tiny_prior(dtype=torch.bfloat16).network)
    assert load_prior("tiny", device="cpu").shortcut is None
    assert load_prior("tiny", device="cpu", dtype="bfloat16", traced=True).shortcut is None
    assert load_prior("tiny_sd3", device="cpu", traced=True).shortcut is None
