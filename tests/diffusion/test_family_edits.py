"""Every family edits a scene and a picture with the loop that the command line runs, in miniature."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.diffusion.load import TINY, load_prior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.diffusion.tiny import MINIATURES
from gs_ssd.edit.image import ImageCanvas, LatentImage
from gs_ssd.edit.loop import distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.guidance import CDS, CSD, SSD, SSDIP2P, DreamCatalystIP2P, Guidance, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import OrbitViews, find_frame
from tests.diffusion.test_families import METHODS, PRIORS, WITHOUT_NULL


def run(prior, canvas, guidance: Guidance | None = None, *, steps: int = 2) -> int:
    guidance = guidance or (SSD() if prior.has_null else CSD())
    guidance.prepare(prior)
    return len(
        list(
            distil(
                canvas,
                prior=prior,
                guidance=guidance,
                timesteps=Linear(),
                num_steps=steps,
                generator=torch.Generator().manual_seed(0),
            )
        )
    )


def scene_canvas(prior, gaussians) -> SplatCanvas:
    scene = TrainableScene(gaussians)
    return SplatCanvas(
        scene,
        source=gaussians.clone(),
        views=OrbitViews(find_frame(gaussians), 64, 64),
        renderer=render,
        prior=prior,
        texts=encode_prompts(prior, target="a clown", source="a man"),
    )


def picture_canvas(prior) -> ImageCanvas:
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_src = prior.encode(rgb)
    image = LatentImage(prior, z_src)
    return ImageCanvas(
        image,
        optimizer=torch.optim.SGD([image.parameter], lr=0.01),
        text=encode_prompts(prior, target="a clown", source="a man"),
        z_src=z_src,
        condition=prior.encode_condition(rgb) if prior.takes_image else None,
    )


@pytest.mark.parametrize("name", TINY)
def test_it_edits_a_scene(name, gaussians):
    prior = load_prior(name, device="cpu")
    canvas = scene_canvas(prior, gaussians)
    assert run(prior, canvas) == 2
    assert not torch.equal(canvas.scene.gaussians.sh0, gaussians.sh0)


@pytest.mark.parametrize("name", TINY)
def test_it_edits_a_picture(name):
    prior = load_prior(name, device="cpu")
    canvas = picture_canvas(prior)
    before = canvas.image.latents().detach().clone()
    assert run(prior, canvas) == 2
    assert canvas.image.picture().shape == (1, 64, 64, 3)
    assert not torch.equal(canvas.image.latents(), before)


@pytest.mark.slow
@pytest.mark.parametrize("family", MINIATURES)
def test_every_method_that_runs_on_it_edits_both(family, gaussians):
    """The table of docs/models.md, in 3D and 2D; what is refused is tested beside it."""
    prior = PRIORS[family]
    methods = METHODS if prior.has_null else WITHOUT_NULL
    for guidance in [*methods, *[SSDIP2P(), DreamCatalystIP2P()] * prior.takes_image]:
        if isinstance(guidance, CDS) and not prior.has_self_attention:
            continue
        for canvas in (scene_canvas(prior, gaussians), picture_canvas(prior)):
            assert run(prior, canvas, guidance, steps=1) == 1
