"""Every family edits a scene, with the loop that the command line runs, and a picture, in miniature."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.diffusion.load import TINY, load_prior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.image import LatentImage, distil
from gs_ssd.edit.loop import edit
from gs_ssd.edit.trainable import SceneOptimizer
from gs_ssd.guidance import CSD, SSD, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import OrbitViews, find_frame


def method(prior):
    return SSD() if prior.has_null else CSD()


@pytest.mark.parametrize("name", TINY)
def test_it_edits_a_scene(name, gaussians):
    prior = load_prior(name, device="cpu")
    scene = SceneOptimizer(gaussians)
    before = scene.gaussians.clone().tensors()
    reports = list(
        edit(
            scene,
            views=OrbitViews(find_frame(gaussians), 64, 64),
            renderer=render,
            prior=prior,
            guidance=method(prior),
            text=encode_prompts(prior, target="a clown", source="a man"),
            timesteps=Linear(),
            num_steps=2,
            generator=torch.Generator().manual_seed(0),
        )
    )
    assert len(reports) == 2
    assert not torch.equal(scene.gaussians.tensors()["sh0"], before["sh0"])


@pytest.mark.parametrize("name", TINY)
def test_it_edits_a_picture(name):
    prior = load_prior(name, device="cpu")
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_src = prior.encode(rgb)
    image = LatentImage(prior, z_src)
    reports = list(
        distil(
            image,
            prior=prior,
            guidance=method(prior),
            text=encode_prompts(prior, target="a clown", source="a man"),
            image_condition=prior.encode_condition(rgb) if prior.takes_image else None,
            timesteps=Linear(),
            optimizer=torch.optim.SGD([image.parameter], lr=0.01),
            z_src=z_src,
            num_steps=2,
            generator=torch.Generator().manual_seed(0),
        )
    )
    assert len(reports) == 2
    assert image.picture().shape == rgb.shape and not torch.equal(image.latents(), z_src)
