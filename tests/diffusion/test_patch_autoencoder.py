"""The patch autoencoder is an orthogonal projection with an exact adjoint."""

import pytest
import torch

from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(64, 3, 6, 9, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(16, 24), mode="bilinear")


@pytest.fixture(scope="module")
def autoencoder(images) -> PatchAutoencoder:
    return PatchAutoencoder(latent_channels=12).fit(images)


def test_basis_is_orthonormal(autoencoder):
    gram = autoencoder.basis.T @ autoencoder.basis
    torch.testing.assert_close(gram, torch.eye(12), atol=1e-5, rtol=0)


def test_shapes(autoencoder, images):
    z = autoencoder.encode(images).latent_dist.mean
    assert z.shape == (64, 12, 2, 3)
    assert autoencoder.decode(z).sample.shape == images.shape
    assert autoencoder.encode(images).latent_dist.sample() is not None


def test_decode_then_encode_is_the_identity(autoencoder):
    z = torch.randn(2, 12, 3, 5)
    torch.testing.assert_close(
        autoencoder.encode(autoencoder.decode(z).sample).latent_dist.mean, z, atol=1e-4, rtol=1e-4
    )


def test_projection_is_idempotent_and_close(autoencoder, images):
    once = autoencoder(images).sample
    torch.testing.assert_close(autoencoder(once).sample, once, atol=1e-5, rtol=1e-5)
    assert (once - images).pow(2).mean() < 0.5 * images.var()


def test_whitening_sets_the_spread(images):
    for whitening, expected in ((1.0, 1.0), (0.0, None)):
        z = PatchAutoencoder(latent_channels=6).fit(images, whitening).encode(images).latent_dist.mean
        sd = z.std((0, 2, 3))
        assert sd.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.02)
        if expected:
            torch.testing.assert_close(sd, torch.full_like(sd, expected), atol=0.02, rtol=0)


def test_gradient_is_the_adjoint(autoencoder):
    """<J v, w> = <v, J^T w> for the linear part of the encoder."""
    x = torch.randn(1, 3, 16, 16, requires_grad=True)
    v, w = torch.randn(1, 3, 16, 16), torch.randn(1, 12, 2, 2)
    z = autoencoder.encode(x).latent_dist.mean
    (pulled,) = torch.autograd.grad(z, x, w)
    pushed = autoencoder.encode(x + v).latent_dist.mean - z
    torch.testing.assert_close((pushed * w).sum(), (v * pulled).sum(), atol=1e-3, rtol=1e-3)


def test_gradcheck():
    model = PatchAutoencoder(patch_size=2, latent_channels=3).double()
    torch.nn.init.orthogonal_(model.basis)
    x = torch.randn(1, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: model.decode(model.encode(t).latent_dist.mean).sample, x)


def test_save_and_load(autoencoder, images, tmp_path):
    autoencoder.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert loaded.config.latent_channels == 12 and loaded.config.scaling_factor == 1.0
    torch.testing.assert_close(
        loaded.encode(images).latent_dist.mean, autoencoder.encode(images).latent_dist.mean
    )


@pytest.mark.parametrize("shape", [(1, 3, 12, 16), (3, 16, 16), (1, 4, 16, 16)])
def test_bad_shapes_are_refused(autoencoder, shape):
    with pytest.raises(ValueError, match="divisible by 8"):
        autoencoder.encode(torch.zeros(shape))
