"""An autoencoder in float16: the same function, whose activations fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gs_ssd.diffusion.half_autoencoder import lower_activations
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.tiny import tiny_parts


def there_and_back(prior) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of a picture, the gradient of a cotangent in its pixels, and what the latents decode to."""
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    z = prior.encode(rgb)
    z.backward(torch.randn(z.shape, generator=torch.Generator().manual_seed(1)))
    return z.detach(), rgb.grad, prior.decode(z.detach())


@pytest.mark.parametrize("name", ["tiny", "tiny_sdxl", "tiny_flux2"])
def test_lower_activations_are_another_way_to_write_the_same_function(name):
    prior, streams = load_prior(name, device="cpu"), []
    for parameter in prior.vae.parameters():  # biases too, which a new model has none of
        torch.nn.init.normal_(parameter, std=0.1)
    prior.vae.encoder.mid_block.register_forward_hook(lambda *args: streams.append(args[-1].detach()))
    expected = there_and_back(prior)
    lower_activations(prior.vae)
    for got, want in zip(there_and_back(prior), expected):
        assert_close(got, want, atol=1e-6, rtol=1e-4)
    assert_close(streams[1], streams[0] / 32, atol=1e-6, rtol=1e-4)


def test_activations_beyond_the_range_of_float16_fit(tmp_path):
    """As SDXL's are said to be: a stream of some 100,000."""
    parts = tiny_parts()
    for half in (parts["vae"].encoder, parts["vae"].decoder):
        with torch.no_grad():
            half.conv_in.weight.mul_(2.0**18)
            half.conv_in.bias.mul_(2.0**18)
    for name, part in parts.items():
        part.save_pretrained(tmp_path / name)
    whole, half = (
        load_prior(str(tmp_path), device="cpu", vae_dtype=dtype) for dtype in ("float32", "float16")
    )
    for got, expected in zip(there_and_back(half), there_and_back(whole)):
        assert bool(got.isfinite().all()) and float((got - expected).norm() / expected.norm()) < 0.02
    torch.nn.Module.to(whole.vae, torch.float16)
    assert not bool(there_and_back(whole)[0].isfinite().all())
