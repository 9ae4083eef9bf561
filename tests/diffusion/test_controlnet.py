"""A ControlNet is shown the source's depth, in every branch, in 3D and in 2D."""

from __future__ import annotations

from functools import partial

import diffusers
import pytest
import torch

from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.depth import depth_picture
from gs_ssd.edit.loop import distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.errors import UserError
from gs_ssd.guidance import SSD, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import OrbitViews, find_frame
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts
from tests.diffusion.test_families import step_of


def save_controlnet(prior, folder) -> str:
    """A ControlNet for a miniature, whose closing layers are not the zeros that it would start training with."""
    torch.manual_seed(0)
    net = diffusers.ControlNetModel.from_unet(prior.unet, conditioning_embedding_out_channels=(4, 8, 8, 8))
    for name, parameter in net.named_parameters():
        if "controlnet_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    net.save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["tiny", "tiny_sdxl"])
def pair(request, tmp_path):
    """A miniature without and with its ControlNet."""
    plain = load_prior(request.param, device="cpu")
    folder = save_controlnet(plain, tmp_path / "control")
    return plain, load_prior(request.param, device="cpu", control=folder, cuda_graph=True)


def test_the_picture_reaches_the_network_and_without_one_it_answers_alone(pair):
    plain, prior = pair
    step = step_of(plain)
    text = step.text["target"]
    near, far = torch.rand(2, 1, 3, 64, 64).unbind()
    alone = plain.predict_noise(step.z_t, step.t, text)
    assert torch.equal(prior.predict_noise(step.z_t, step.t, text), alone)
    answers = [prior.predict_noise(step.z_t, step.t, text.with_control(x)) for x in (near, far)]
    assert not torch.allclose(answers[0], alone, atol=1e-3)
    assert not torch.allclose(*answers, atol=1e-4)


def test_it_edits_a_scene(pair, gaussians):
    seen = []
    for prior in pair:
        scene = TrainableScene(gaussians)
        canvas = SplatCanvas(
            scene,
            source=gaussians.clone(),
            views=OrbitViews(find_frame(gaussians), 64, 64),
            renderer=render,
            prior=prior,
            texts=encode_prompts(prior, target="a clown", source="a man"),
            views_per_step=2,
        )
        generator = torch.Generator().manual_seed(0)
        how = {"guidance": SSD(), "timesteps": Linear(), "num_steps": 2, "generator": generator}
        assert len(list(distil(canvas, prior=prior, **how))) == 2
        seen.append(scene.gaussians.sh0.detach().clone())
    assert not torch.equal(*seen)


def test_it_edits_a_picture_with_its_depth(tmp_path):
    plain = load_prior("tiny", device="cpu")
    prior = load_prior("tiny", device="cpu", control=save_controlnet(plain, tmp_path / "control"))
    rgb, depth = torch.rand(2, 1, 64, 64, 3, generator=torch.Generator().manual_seed(0)).unbind()
    prompts = Prompts("a man", "a clown")
    make = partial(ImageEdit, rgb, prompts, prior=prior, num_steps=1)
    found = []
    for picture in (depth, 1 - depth):
        edit = make(depth=picture)
        next(edit)
        found.append(edit.picture)
    assert not torch.equal(*found)
    with pytest.raises(UserError, match=r"has a ControlNet, which reads the picture's depth; give depth="):
        make()
    with pytest.raises(UserError, match=r"the depth is 32x32 pixels, the picture 64x64"):
        make(depth=depth[:, :32, :32])


def test_near_is_white_and_nothing_is_black(gaussians):
    cameras, _ = OrbitViews(find_frame(gaussians), 32, 32).sample(2, torch.Generator().manual_seed(0))
    out = render(gaussians, cameras, render_mode="RGB+ED")
    picture = depth_picture(out)[:, 0]
    assert picture.shape == (2, 32, 32) and float(picture.min()) >= 0
    assert picture.flatten(1).amax(dim=1).tolist() == pytest.approx([1, 1])
    assert float(picture[out.alpha[..., 0] < 1e-3].abs().sum()) == 0
    solid = out.alpha[..., 0] > 0.95
    for view in range(2):
        depths, values = out.depth[view, ..., 0][solid[view]], picture[view][solid[view]]
        if len(depths) > 10:
            assert torch.corrcoef(torch.stack([depths, values]))[0, 1] < -0.5


def test_models_it_does_not_fit(tmp_path):
    folder = save_controlnet(load_prior("tiny", device="cpu"), tmp_path / "control")
    for name, reason in (
        ("tiny_sd3", "takes none"),
        ("tiny_ip2p", "takes none"),
        ("tiny_sdxl", "was made for another base model"),
    ):
        with pytest.raises(UserError, match=rf"diffusion\.control=.*{reason}"):
            load_prior(name, device="cpu", control=folder)
    with pytest.raises(UserError, match=r"diffusion\.control=depth: none is known for tiny"):
        load_prior("tiny", device="cpu", control="depth")
    with pytest.raises(UserError, match=r"diffusion\.control=.* can't be loaded"):
        load_prior("tiny", device="cpu", control=str(tmp_path))


def test_a_picture_with_its_depth_is_resumed(tmp_path):
    """From the files that its checkpoint names; another depth is refused."""
    from gs_ssd.results.image_files import save_image

    torch.manual_seed(0)
    for name in ("photo", "depth", "other"):
        save_image(torch.rand(64, 64, 3), tmp_path / f"{name}.png")
    folder = save_controlnet(load_prior("tiny", device="cpu"), tmp_path / "control")
    prior = load_prior("tiny", device="cpu", control=folder)
    prompts = Prompts("a man", "a clown")
    made = partial(ImageEdit, tmp_path / "photo.png", prompts, prior=prior, num_steps=4)
    whole, half = made(depth=tmp_path / "depth.png"), made(depth=tmp_path / "depth.png")
    for _ in whole:
        pass
    next(half), next(half)
    checkpoint = half.save_checkpoint(tmp_path)
    resumed = ImageEdit.resume(checkpoint, prior=prior)
    for _ in resumed:
        pass
    assert torch.equal(resumed.picture, whole.picture)
    with pytest.raises(UserError, match=r"is a checkpoint of another depth than .*other\.png"):
        ImageEdit.resume(checkpoint, prior=prior, depth=tmp_path / "other.png")
