"""The image loop reaches the fixed points that the closed-form prior predicts."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.image import ImageCanvas, LatentImage, PixelImage
from gs_ssd.edit.loop import distil
from gs_ssd.errors import NonFiniteError
from gs_ssd.guidance import DDS, SDS, SSD, Step, encode_prompts
from gs_ssd.guidance.decomposition import decompose, picture_of


@pytest.fixture
def prior() -> GaussianPrior:
    """Prompts whose images differ from grey by little, so that pixels stay inside [0, 1]."""
    offsets = 0.05 * torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return GaussianPrior(dict(zip(("a man", "a clown", "", "ugly"), 0.5 + offsets)))


@pytest.fixture
def text(prior) -> dict:
    return encode_prompts(prior, target="a clown", source="a man", negative="ugly")


def run(image, prior, guidance, text, optimizer, *, num_steps: int = 200, seed: int = 0, z_src=None):
    return list(
        distil(
            ImageCanvas(image, optimizer=optimizer, text=text, z_src=z_src),
            prior=prior,
            guidance=guidance,
            timesteps=Linear(),
            num_steps=num_steps,
            generator=torch.Generator().manual_seed(seed),
        )
    )


def means(prior) -> list[torch.Tensor]:
    """X_ŷ, X_y, X_∅."""
    return list(prior.means[:3])


def test_dds_moves_the_source_by_the_difference_of_the_prompts(prior, text):
    z_src = prior.means[:1] + 0.1
    image = LatentImage(prior, z_src)
    reports = run(image, prior, DDS(s=1), text, torch.optim.SGD([image.parameter], lr=0.0488), z_src=z_src)
    x_src, x_y, _ = means(prior)
    assert_close(image.latents().detach(), z_src + x_y - x_src, atol=1e-4, rtol=0)
    assert [reports[0].t, reports[-1].t] == [981, 25]
    assert reports[-1].loss < 1e-3 * max(report.loss for report in reports)


def test_ssd_reaches_its_fixed_point(prior, text):
    ssd = SSD(w_p=2.0, w_t=1.0, w_e=0.5, w_id=0)
    z_src = prior.means[:1]
    image = LatentImage(prior, z_src)
    run(image, prior, ssd, text, torch.optim.SGD([image.parameter], lr=0.0488), z_src=z_src)
    x_src, x_y, x_null = means(prior)
    expected = z_src + (x_src - x_null) + 2 * (x_y - x_src) + 0.5 * (x_y - x_null)
    assert_close(image.latents().detach(), expected, atol=1e-4, rtol=0)


def test_pixels_reach_it_too_through_the_encoder(prior, text):
    rgb = prior.decode(prior.means[:1])
    image = PixelImage(prior, rgb)
    run(image, prior, SDS(s=1), text, torch.optim.Adam([image.parameter], lr=0.01))
    assert_close(image.picture(), prior.decode(prior.means[1:2]), atol=0.02, rtol=0)


def test_pixels_stay_in_range(prior, text):
    image = PixelImage(prior, prior.decode(prior.means[:1]))
    run(image, prior, SDS(s=1000), text, torch.optim.Adam([image.parameter], lr=0.1), num_steps=30)
    assert 0 <= float(image.picture().min()) <= float(image.picture().max()) <= 1


def test_an_image_owns_its_parameter(prior):
    z = prior.means[:1].clone()
    image = LatentImage(prior, z)
    with torch.no_grad():
        image.parameter.add_(1)
    assert torch.equal(z, prior.means[:1])


def test_a_seed_repeats_the_run(prior, text):
    def result(seed: int) -> torch.Tensor:
        image = LatentImage(prior, prior.means[:1])
        optimizer = torch.optim.SGD([image.parameter], lr=0.05)
        return run(image, prior, SDS(), text, optimizer, num_steps=3, seed=seed)[-1].loss

    assert result(0) == result(0)


def test_broken_numbers_stop_before_the_image_moves(prior, text):
    prior.means[1] = float("nan")
    image = LatentImage(prior, prior.means[:1])
    with pytest.raises(NonFiniteError, match=r"sds gradient is not finite at step 0 \(t = 981\)"):
        run(image, prior, SDS(), text, torch.optim.SGD([image.parameter], lr=1))
    assert torch.equal(image.latents().detach(), prior.means[:1])


@pytest.mark.parametrize("t", [199, 200, 800])
def test_components_add_up_to_the_prediction(prior, text, t):
    z, noise = prior.means[:1], torch.randn(1, 3, 4, 4)
    parts = decompose(prior, Step(z, z, noise, t, prior.schedule, text))
    z_t = prior.schedule.add_noise(z, noise, t)
    e = {name: prior.predict_noise(z_t, t, words) for name, words in text.items()}
    guided = e["null"] + 7.5 * (e["target"] - e["null"])
    assert_close(parts["delta_N"] + parts["delta_D"] + 7.5 * parts["delta_C"], guided)
    # SDS's gradient is NFSD's and the residual.
    assert_close(parts["delta_D"] + parts["delta_R"] + 7.5 * parts["delta_C"], guided - noise)
    assert_close(parts["delta_N"], e["negative"] if t >= 200 else torch.zeros_like(z))


def test_pictures_of_components(prior):
    z = prior.means[:1]
    assert_close(picture_of(prior, z, torch.zeros_like(z)), torch.full((1, 4, 4, 3), 0.5))
    brighter = picture_of(prior, z, -torch.ones_like(z))
    assert bool((brighter > 0.5).all()) and float(brighter.max()) == 1
