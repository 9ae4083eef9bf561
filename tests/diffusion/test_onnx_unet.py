"""A small UNet in ONNX Runtime says what the UNet says."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.onnx_unet import OnnxUNet
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.errors import UserError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_the_embedded_prior_predicts_the_same_at_any_time_batch_and_size():
    prior = load_prior("embedded", device="cpu", onnx=True)
    assert prior.shortcut is not None
    text = prior.encode_prompt(["a photo of a man", "a photo of a clown", ""])
    generator = torch.Generator().manual_seed(0)
    for t, batch, height, width in ((500, 3, 16, 16), (20, 1, 16, 16), (980, 2, 24, 12), (300, 3, 16, 16)):
        z_t = torch.randn(batch, prior.latent_channels, height, width, generator=generator)
        words = text.map(lambda x, n=batch: x[:n])
        found = prior.predict_noise(z_t, t, words)
        shortcut, prior.shortcut = prior.shortcut, None
        assert_close(found, prior.predict_noise(z_t, t, words), atol=1e-5, rtol=1e-5)
        prior.shortcut = shortcut
        assert torch.equal(found, prior.predict_noise(z_t, t, words)), "the same question, the same bits"


@pytest.mark.slow
def test_freeu_and_gradients_go_around_it():
    plain, prior = tiny_prior(freeu=True), tiny_prior(freeu=True)
    prior.shortcut = OnnxUNet(prior)
    text, z_t = prior.encode_prompt(["a clown"]), torch.randn(1, 4, 8, 8)
    for freeu in (False, True):
        expected = plain.predict_noise(z_t, 300, text, freeu=freeu)
        assert_close(prior.predict_noise(z_t, 300, text, freeu=freeu), expected, atol=1e-5, rtol=1e-5)
    z_t.requires_grad_()
    prior.network_output(z_t, 300, text).sum().backward()
    assert z_t.grad is not None
    assert len(prior.attention_features(z_t, 300, text)) == 2


@pytest.mark.parametrize(
    ("name", "dtype"), [("tiny", "bfloat16"), ("tiny_sd3", "float32"), ("tiny_sdxl", "float32")]
)
def test_what_it_is_not_for_is_refused(name, dtype):
    with pytest.raises(UserError, match="onnx=true is for UNets of one text encoder"):
        load_prior(name, device="cpu", dtype=dtype, onnx=True)
