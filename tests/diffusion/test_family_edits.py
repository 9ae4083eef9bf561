"""Every family edits a scene and a picture with the loop that the command line runs, in miniature."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.diffusion.load import TINY, load_prior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.image import ImageCanvas, LatentImage
from gs_ssd.edit.loop import distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.guidance import CSD, SSD, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import OrbitViews, find_frame


def run(prior, canvas) -> int:
    return len(
        list(
            distil(
                canvas,
                prior=prior,
                guidance=SSD() if prior.has_null else CSD(),
                timesteps=Linear(),
                num_steps=2,
                generator=torch.Generator().manual_seed(0),
            )
        )
    )


@pytest.mark.parametrize("name", TINY)
def test_it_edits_a_scene(name, gaussians):
    prior = load_prior(name, device="cpu")
    scene = TrainableScene(gaussians)
    before = scene.gaussians.clone().tensors()
    canvas = SplatCanvas(
        scene,
        source=gaussians.clone(),
        views=OrbitViews(find_frame(gaussians), 64, 64),
        renderer=render,
        prior=prior,
        texts=encode_prompts(prior, target="a clown", source="a man"),
    )
    assert run(prior, canvas) == 2
    assert not torch.equal(scene.gaussians.tensors()["sh0"], before["sh0"])


@pytest.mark.parametrize("name", TINY)
def test_it_edits_a_picture(name):
    prior = load_prior(name, device="cpu")
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_src = prior.encode(rgb)
    image = LatentImage(prior, z_src)
    canvas = ImageCanvas(
        image,
        optimizer=torch.optim.SGD([image.parameter], lr=0.01),
        text=encode_prompts(prior, target="a clown", source="a man"),
        z_src=z_src,
        condition=prior.encode_condition(rgb) if prior.takes_image else None,
    )
    assert run(prior, canvas) == 2
    assert image.picture().shape == rgb.shape and not torch.equal(image.latents(), z_src)
