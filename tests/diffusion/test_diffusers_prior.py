"""The adapter to diffusers, on a random miniature of Stable Diffusion."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.folders import UNET_PARTS
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.diffusion.tiny import CONTEXT, tiny_parts, tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.guidance import SSDIP2P, Step, encode_prompts


@pytest.fixture(scope="module")
def prior() -> StableDiffusionPrior:
    return tiny_prior()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A pipeline folder as diffusers writes it."""
    folder = tmp_path_factory.mktemp("models") / "small"
    for name, part in tiny_parts(seed=3).items():
        part.save_pretrained(folder / name)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(saved, tmp_path / "small"))


def batch(prior: StableDiffusionPrior, size: int = 2) -> tuple[torch.Tensor, TextCondition]:
    z_t = torch.randn(size, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return z_t, prior.encode_prompt(["a clown", "a man", ""][:size])


# Predictions


@pytest.mark.parametrize("t", [1, 500, 981])
def test_every_prediction_type_becomes_epsilon(t):
    """An ideal network of each type returns the drawn noise through the adapter."""
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for kind in ("epsilon", "v_prediction", "sample"):
        prior = StableDiffusionPrior(**tiny_parts(prediction_type=kind))
        alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
        ideal = {"epsilon": noise, "v_prediction": alpha * noise - sigma * z, "sample": z}[kind]
        handle = prior.unet.conv_out.register_forward_hook(lambda *_, output=ideal: output)
        z_t = prior.schedule.add_noise(z, noise, t)
        assert_close(prior.predict_noise(z_t, t, prior.encode_prompt([""])), noise, atol=1e-4, rtol=1e-4)
        handle.remove()


def test_unknown_prediction_types_are_refused():
    parts = tiny_parts()
    parts["scheduler"].register_to_config(prediction_type="sigma")
    with pytest.raises(UserError, match=r"sigma.*epsilon, v_prediction, sample"):
        StableDiffusionPrior(**parts)


def test_a_batch_is_its_members_one_by_one(prior):
    z_t, text = batch(prior)
    together = prior.predict_noise(z_t, 300, text)
    for i in range(2):
        assert_close(prior.predict_noise(z_t[[i]], 300, text.split()[i]), together[[i]], atol=1e-5, rtol=1e-4)


def test_half_precision_stays_inside():
    whole, half = tiny_prior(), StableDiffusionPrior(**tiny_parts(), dtype=torch.bfloat16)
    z_t, text = batch(whole)
    predicted = half.predict_noise(z_t, 300, half.encode_prompt(["a clown", "a man"]))
    assert predicted.dtype == torch.float32
    assert_close(predicted, whole.predict_noise(z_t, 300, text), atol=0.05, rtol=0.1)
    assert half.encode(torch.rand(1, 64, 64, 3)).dtype == torch.float32


def test_latents_of_any_even_or_odd_size(prior):
    z_t, text = torch.randn(1, 4, 9, 13), prior.encode_prompt([""])
    assert prior.predict_noise(z_t, 300, text).shape == z_t.shape


def test_nothing_of_it_can_train(prior):
    parameters = [p for part in (prior.unet, prior.text_encoder, prior.vae) for p in part.parameters()]
    assert not any(p.requires_grad for p in parameters)
    rgb = torch.rand(1, 64, 64, 3, requires_grad=True)
    prior.encode(rgb).sum().backward()
    assert rgb.grad is not None
    assert all(p.grad is None for p in parameters)


# Images and latents


def test_encode_is_differentiable(prior):
    """The directional derivative against a central difference."""
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(1, 64, 64, 3, generator=generator).requires_grad_()
    direction = torch.randn(rgb.shape, generator=generator)
    cotangent = torch.randn(1, 4, 8, 8, generator=generator)

    def value(x: torch.Tensor) -> torch.Tensor:
        return (prior.encode(x) * cotangent).sum()

    (grad,) = torch.autograd.grad(value(rgb), rgb)
    h = 1e-2
    with torch.no_grad():
        numeric = (value(rgb + h * direction) - value(rgb - h * direction)) / (2 * h)
    assert_close((grad * direction).sum(), numeric, rtol=2e-2, atol=1e-3)


def test_latents_are_the_scaled_posterior_mean(prior):
    rgb = torch.rand(1, 64, 128, 3)
    z = prior.encode(rgb)
    assert z.shape == (1, 4, 8, 16)
    mean = prior.vae.encode(rgb.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mean
    assert_close(z, mean * 0.18215)
    assert torch.equal(z, prior.encode(rgb))
    picture = prior.decode(z)
    assert picture.shape == rgb.shape
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


# InstructPix2Pix


def test_image_condition_is_the_unscaled_mean_in_eight_channels():
    prior = StableDiffusionPrior(**tiny_parts(image_condition=True))
    assert prior.takes_image and prior.unet.config.in_channels == 8
    rgb = torch.rand(1, 64, 64, 3)
    condition = prior.encode_condition(rgb)
    assert_close(condition * 0.18215, prior.encode(rgb))  # of 2x - 1, which DreamCatalyst's authors leave out
    assert_close(condition, prior.vae.encode(2 * rgb.permute(0, 3, 1, 2) - 1).latent_dist.mean)
    z_t, text = torch.randn(1, 4, 8, 8), prior.encode_prompt(["make it a clown"])
    with_image = prior.predict_noise(z_t, 300, text, condition)
    assert with_image.shape == z_t.shape
    assert not torch.allclose(with_image, prior.predict_noise(z_t, 300, text, torch.zeros_like(condition)))
    with pytest.raises(ValueError, match="image condition"):
        prior.predict_noise(z_t, 300, text)

    words = encode_prompts(prior, target="make it a clown", source="")
    noise = torch.randn_like(z_t)
    grad = SSDIP2P()(prior, Step(z_t, prior.encode(rgb), noise, 300, prior.schedule, words, condition))
    assert grad.shape == z_t.shape and bool(grad.isfinite().all())


def test_a_text_only_prior_takes_no_image(prior):
    assert not prior.takes_image
    with pytest.raises(ValueError, match="no image condition"):
        prior.encode_condition(torch.rand(1, 64, 64, 3))


# Text


def test_over_long_prompts_warn(prior):
    with pytest.warns(UserWarning, match=rf"reads {CONTEXT}: its end is ignored"):
        prior.encode_prompt(["a very long prompt indeed"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prior.encode_prompt(["a clown", ""]).hidden.shape == (2, CONTEXT, 32)


# Loading


def test_a_saved_pipeline_loads_and_predicts_the_same(saved):
    original, loaded = tiny_prior(seed=3), load_prior(str(saved))
    z_t, text = batch(original)
    assert_close(loaded.encode_prompt(["a clown", "a man"]).hidden, text.hidden)
    assert_close(loaded.predict_noise(z_t, 300, text), original.predict_noise(z_t, 300, text))
    rgb = torch.rand(1, 64, 64, 3)
    assert_close(loaded.encode(rgb), original.encode(rgb))
    assert (loaded.name, loaded.vae_scale_factor, loaded.resolution) == (str(saved), 8, 64)
    assert loaded.unknown_words("whatever") == []


def test_a_closed_vocabulary_is_read_from_the_folder(folder):
    (folder / "vocabulary.json").write_text(json.dumps({"words": ["a", "clown", "man"]}))
    prior = load_prior(str(folder))
    assert prior.unknown_words("A clwn, a man") == ["clwn"]
    assert prior.nearest_words("clwn") == ["clown"]


def refused(path: Path | str, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load_prior(str(path), **kwargs)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "a/b/c"])
def test_a_missing_folder(path):
    assert "a folder in diffusers format or a hub name" in refused(path)


@pytest.mark.parametrize("part", UNET_PARTS)
def test_a_missing_part(folder, part):
    shutil.rmtree(folder / part)
    assert f"{part} missing" in refused(folder)


@pytest.mark.parametrize("weights", ["unet/diffusion_pytorch_model", "text_encoder/model"])
@pytest.mark.parametrize("damage", ["truncate", "garbage", "remove"])
def test_broken_weights(folder, weights, damage):
    path = folder / f"{weights}.safetensors"
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "truncate" else b"not weights at all")
    assert "is it a complete diffusers folder" in refused(folder)


def test_pickled_weights_are_not_opened(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    assert "found only diffusion_pytorch_model.bin; save it again with safe_serialization" in refused(folder)


def test_broken_config(folder):
    (folder / "unet" / "config.json").write_text("{")
    refused(folder)
