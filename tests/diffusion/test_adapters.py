"""LoRAs, tiny autoencoders, and the levers for memory: what they change, and that the rest is equal."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from torch.testing import assert_close

from gs_ssd.diffusion.diffusers_prior import frozen
from gs_ssd.diffusion.full_size import AUTOENCODER
from gs_ssd.diffusion.half_autoencoder import lower_activations
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.lora import ADAPTED, LoraTwin
from gs_ssd.diffusion.parts import cast
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.edit.image import ImageCanvas, LatentImage
from gs_ssd.edit.loop import distil
from gs_ssd.errors import UserError
from gs_ssd.guidance import SSD, encode_prompts
from scripts import measure_tiny_autoencoder
from tests.diffusion.test_families import step_of

WITH_LORA = {"tiny": "unet", "tiny_sdxl": "unet", "tiny_sd3": "transformer", "tiny_flux": "transformer"}


def save_lora(name: str, folder) -> torch.Tensor:
    """Write a random LoRA for a miniature; returns what the adapted network predicts."""
    prior = load_prior(name, device="cpu")
    torch.manual_seed(0)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=list(ADAPTED)), prior.network)
    for key, parameter in prior.network.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.5)
    layers = {f"{WITH_LORA[name]}_lora_layers": get_peft_model_state_dict(prior.network)}
    prior.pipeline.save_lora_weights(folder, **layers)
    step = step_of(prior)
    return prior.predict_noise(step.z_t, step.t, step.text["target"])


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_LORA)
def test_a_lora_is_melted_into_the_weights(name, tmp_path):
    expected = save_lora(name, tmp_path / "lora")
    plain = load_prior(name, device="cpu")
    step = step_of(plain)
    ask = (step.z_t, step.t, step.text["target"])
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    for path in (tmp_path / "lora", file):
        prior = load_prior(name, device="cpu", lora=str(path))
        assert_close(prior.predict_noise(*ask), expected, atol=1e-4, rtol=1e-4)
        assert not any("lora" in key for key, _ in prior.network.named_parameters())
        assert not any(p.requires_grad for p in prior.network.parameters())
    assert not torch.allclose(plain.predict_noise(*ask), expected, atol=1e-2)
    none = load_prior(name, device="cpu", lora=str(file), lora_scale=0.0)
    assert_close(none.predict_noise(*ask), plain.predict_noise(*ask), atol=1e-5, rtol=1e-5)


def test_a_consistency_lora_restricts_the_timesteps(tmp_path):
    save_lora("tiny", tmp_path / "lcm-lora-sdv1-5")
    prior = load_prior("tiny", device="cpu", lora=str(tmp_path / "lcm-lora-sdv1-5"))
    assert not prior.has_null and prior.schedule.trained[:2] == (19, 39)


def test_loras_that_do_not_fit(tmp_path):
    save_lora("tiny_sdxl", tmp_path / "sdxl")
    save_lora("tiny_sd3", tmp_path / "sd3")
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html>")
    for name, lora in (
        ("tiny", "sdxl"),
        ("tiny", "sd3"),
        ("tiny", "empty"),
        ("tiny", "page.safetensors"),
        ("tiny_flux", "sdxl"),
        ("tiny_pixart", "sdxl"),
    ):
        with pytest.raises(
            UserError, match=r"diffusion\.lora=.*(doesn't fit|has no weights for|there are no LoRAs)"
        ) as caught:
            load_prior(name, device="cpu", lora=str(tmp_path / lora))
        assert "\n" not in str(caught.value)


def test_a_tiny_autoencoder_encodes_and_the_model_decodes(tmp_path):
    torch.manual_seed(0)
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(
        tmp_path / "taesd"
    )
    prior, plain = (
        load_prior("tiny", device="cpu", vae=str(tmp_path / "taesd")),
        load_prior("tiny", device="cpu"),
    )
    rgb = torch.rand(1, 64, 64, 3, requires_grad=True)
    z = prior.encode(rgb)
    assert z.shape == plain.encode(rgb).shape and not torch.allclose(z, plain.encode(rgb), atol=1e-2)
    z.sum().backward()
    assert float(rgb.grad.abs().max()) > 0
    assert torch.equal(prior.decode(z.detach()), plain.decode(z.detach()))
    with pytest.raises(UserError, match=r"has 16 latent channels, and tiny .* 4;"):
        AutoencoderTiny(
            latent_channels=16, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4
        ).save_pretrained(tmp_path / "taef1")
        load_prior("tiny", device="cpu", vae=str(tmp_path / "taef1"))
    with pytest.raises(UserError, match="there is none for tiny"):
        load_prior("tiny", device="cpu", vae="taesd")


def test_how_far_a_tiny_autoencoder_is_from_the_models_own(tmp_path, capsys):
    pictures = [torch.rand(1, 16, 16, 3) for _ in range(2)]
    own = measure_tiny_autoencoder.answers(lambda x: 3 * x, pictures)
    half = measure_tiny_autoencoder.answers(lambda x: 1.5 * x, pictures)
    for k in (0, 1):
        said = measure_tiny_autoencoder.compare([o[k] for o in own], [h[k] for h in half])
        assert said == "relative error 0.500 ± 0.000, cosine 1.000 ± 0.000"
    torch.manual_seed(0)
    AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).save_pretrained(
        tmp_path / "taesd"
    )
    measure_tiny_autoencoder.main(["tiny", str(tmp_path / "taesd"), "--device", "cpu", "--views", "2"])
    latents, gradient = capsys.readouterr().out.splitlines()
    assert latents.startswith("latents: relative error ") and gradient.startswith("pixel gradient: ")
    with pytest.raises(SystemExit, match="there is none for tiny"):
        measure_tiny_autoencoder.main(["tiny", "--device", "cpu", "--views", "1"])


@pytest.mark.parametrize("dtype, limit", [("float16", 0.02), ("bfloat16", 0.06)])
def test_a_half_precision_autoencoder_keeps_the_gradient(dtype, limit):
    """The pixel gradient of a whole SSD step, relative to float32, however small it is."""
    whole, half = load_prior("tiny", device="cpu"), load_prior("tiny", device="cpu", vae_dtype=dtype)
    step = step_of(whole)
    grad = SSD()(whole, step)
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    for size in (1.0, 1e-4):
        pixels = []
        for prior in (whole, half):
            x = rgb.clone().requires_grad_()
            z = prior.encode(x)
            assert z.dtype == torch.float32
            z.backward(size * grad)
            pixels.append(x.grad)
        assert float((pixels[1] - pixels[0]).norm() / pixels[0].norm()) < limit


@pytest.mark.slow
@pytest.mark.parametrize("dtype, limit", [(torch.float16, 0.01), (torch.bfloat16, 0.04)])
def test_a_full_size_autoencoder_in_half_precision_keeps_the_gradient(dtype, limit):
    """With random weights; docs/models.md has the same at 512 pixels."""
    torch.manual_seed(0)
    prior = tiny_prior()
    prior.vae = frozen(AutoencoderKL(**AUTOENCODER), prior.device, torch.float32)
    rgb = torch.rand(1, 128, 128, 3)
    pixels = []
    for kind in (torch.float32, dtype):
        x = rgb.clone().requires_grad_()
        if kind == torch.float16:
            lower_activations(prior.vae)
        cast(prior.vae, kind)
        z = prior.encode(x)
        z.backward(torch.randn(z.shape, generator=torch.Generator().manual_seed(1)))
        pixels.append(x.grad)
    assert 1e-4 < float((pixels[1] - pixels[0]).norm() / pixels[0].norm()) < limit


def test_tiling_leaves_small_images_as_they_are():
    plain, tiled = load_prior("tiny", device="cpu"), load_prior("tiny", device="cpu", vae_tiling=True)
    assert tiled.vae.use_tiling and tiled.vae.use_slicing
    rgb = torch.rand(2, 64, 64, 3)
    assert_close(tiled.encode(rgb), plain.encode(rgb), atol=1e-6, rtol=1e-5)
    assert_close(tiled.decode(tiled.encode(rgb)), plain.decode(plain.encode(rgb)), atol=1e-5, rtol=1e-5)


def test_offloaded_text_encoders_visit_the_device_to_encode(monkeypatch):
    plain, prior = (
        load_prior("tiny_sdxl", device="cpu", offload="none"),
        load_prior("tiny_sdxl", device="cpu"),
    )
    assert torch.equal(prior.encode_prompt(["a clown"]).hidden, plain.encode_prompt(["a clown"]).hidden)
    places, move = [], torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda module, *a: (places.append(str(a[0])), move(module, *a))[1]
    )
    prior.rest = torch.device("cpu", 0)  # told apart from the device, though it is the same place
    prior.encode_prompt(["a clown"])
    assert places == ["cpu", "cpu", "cpu:0", "cpu:0", "cpu"]  # the last is the network, which stays there
    with pytest.raises(UserError, match=r"diffusion\.offload=all is none of none, text"):
        load_prior("tiny", device="cpu", offload="all")


def overflowing(prior) -> list[torch.dtype]:
    """Make the network overflow in float16; returns a list of the types in which it is asked."""
    dtypes = []

    def overflow(module, inputs, output):
        dtypes.append(module.weight.dtype)
        return output * 1e6  # 65504 is the largest float16

    prior.network.conv_in.register_forward_hook(overflow)
    return dtypes


def test_a_step_that_overflows_in_half_precision_is_done_once_more_in_float32():
    prior = tiny_prior(dtype=torch.float16)
    weights = {name: p.clone() for name, p in prior.network.named_parameters()}
    dtypes = overflowing(prior)
    image, run = picture_run(prior, steps=2)
    before = image.latents().detach().clone()
    with pytest.warns(UserWarning, match=r"ssd gradient is not finite at step 0 .*once more in float32"):
        report = next(run)
    assert dtypes == [torch.float16, torch.float32] and report.step == 0
    after = image.latents().detach()
    assert bool(after.isfinite().all()) and not torch.equal(after, before)
    assert all(torch.equal(p, weights[name]) for name, p in prior.network.named_parameters())


def test_an_overflow_does_not_stay_in_the_adapters_of_vsd():
    prior = tiny_prior(dtype=torch.float16)
    twin = LoraTwin(prior)
    before = [p.clone() for p in twin.parameters]
    twin.twin.network.conv_in.register_forward_hook(lambda module, inputs, output: output * 1e6)
    step = step_of(tiny_prior())
    loss = twin.train_step(step.z, step.text_of("target"), None, torch.Generator().manual_seed(0))
    assert loss != loss  # not a number
    assert all(torch.equal(p, old) for p, old in zip(twin.parameters, before))


def picture_run(prior, *, steps: int, guidance=None):
    """A picture's latents and the loop that edits them."""
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    image = LatentImage(prior, prior.encode(rgb))
    canvas = ImageCanvas(
        image,
        optimizer=torch.optim.SGD([image.parameter], lr=0.01),
        text=encode_prompts(prior, target="a clown", source="a man"),
        z_src=prior.encode(rgb),
    )
    run = distil(
        canvas,
        prior=prior,
        guidance=guidance or SSD(),
        timesteps=Linear(),
        num_steps=steps,
        generator=torch.Generator().manual_seed(0),
    )
    return image, run


@pytest.mark.parametrize("name", ["tiny", "tiny_sdxl", "tiny_sd3", "tiny_flux2", "tiny_pixart"])
def test_channels_last_is_a_layout_and_no_other_number(name):
    plain, last = load_prior(name, device="cpu"), load_prior(name, device="cpu", channels_last=True)
    weight = next(p for p in last.vae.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    step = step_of(plain)
    ask = (step.z_t, step.t, step.text["target"])
    assert_close(last.predict_noise(*ask), plain.predict_noise(*ask), atol=1e-5, rtol=1e-4)
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for prior in (plain, last):
        x = rgb.clone().requires_grad_()
        prior.encode(x).square().sum().backward()
        found.append(x.grad)
    assert_close(*found, atol=1e-5, rtol=1e-3)
