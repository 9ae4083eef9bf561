"""Selections that look at the scene: lifted pictures, words and the prior's own opinion."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from gs_ssd.diffusion.tiny import tiny_parts, tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.render.coverage import coverage
from gs_ssd.scene import find_frame, orbit
from gs_ssd.scene.gaussians import SH_C0
from gs_ssd.scene.masks import MaskContext, Pictures, Prior, Sphere, Text, preview
from gs_ssd.scene.masks.lifting import contributions, lift
from scripts.measure_prior_mask import overlap
from tests.synthetic import random_gaussians

SIZE = 48
SCENE = random_gaussians(60, sh_degree=1)
FRAME = find_frame(SCENE)
CAMERAS = orbit(FRAME, 6, width=SIZE, height=SIZE)
CONTEXT = MaskContext(renderer=render, frame=FRAME, cameras=CAMERAS)


def test_contributions_are_what_each_gaussian_adds_to_the_picture():
    """Oracle: one Gaussian white, all others black; the picture's sum is that Gaussian's contribution."""
    picture = torch.zeros(1, SIZE, SIZE)
    picture[:, : SIZE // 2] = 0.7
    ((inside, total),) = contributions(SCENE, CAMERAS[0], picture, render)
    for index in (0, 7, 31):
        white = torch.full_like(SCENE.sh0, -0.5 / SH_C0)
        white[index] = 0.5 / SH_C0
        image = render(replace(SCENE, sh0=white, shN=SCENE.shN[:, :0]), CAMERAS[0]).rgb[0, ..., 0]
        assert total[index].item() == pytest.approx(image.sum().item(), abs=1e-3, rel=1e-4)
        assert inside[index].item() == pytest.approx((image * picture[0]).sum().item(), abs=1e-3, rel=1e-4)


def test_contributions_do_not_depend_on_the_background_and_leave_no_gradient():
    picture = torch.ones(1, SIZE, SIZE)
    ((_, black),) = contributions(SCENE, CAMERAS[0], picture, render)
    grey = partial(render, background=torch.full((3,), 0.6))
    with torch.no_grad():
        ((inside, total),) = contributions(SCENE, CAMERAS[0], picture, grey)
    torch.testing.assert_close(total, black)
    torch.testing.assert_close(inside, total)
    assert all(value.grad is None for value in SCENE.tensors().values())


def pictures_of(chosen: torch.Tensor) -> torch.Tensor:
    return (coverage(SCENE, chosen, CAMERAS) > 0.5).float()


def test_lifting_the_picture_of_a_selection_gives_the_selection_back():
    scene = random_gaussians(400, sh_degree=0)
    scene.scales -= 1  # small enough to be told apart
    scene.opacities += 3
    cameras = orbit(find_frame(scene), 12, width=96, height=96)
    want = Sphere([0.3, 0, 0], 0.6)(scene)
    pictures = (coverage(scene, want, cameras) > 0.5).float()
    got = lift(scene, cameras, pictures, render)
    seen = sum(total for _, total in contributions(scene, cameras, pictures, render)) > 1
    assert (got == want)[seen].float().mean() > 0.9


def test_votes_and_thresholds():
    pictures = torch.zeros(len(CAMERAS), SIZE, SIZE)
    pictures[0] = 1  # one view says yes to all that it sees
    assert lift(SCENE, CAMERAS, pictures, render, threshold=0.01).any()
    assert not lift(SCENE, CAMERAS, pictures, render, threshold=0.01, votes=2).any()
    white = torch.ones_like(pictures)
    assert torch.equal(
        lift(SCENE, CAMERAS, white, render), lift(SCENE, CAMERAS, white, render, threshold=1.0)
    )


def folder_of(tmp_path, pictures: torch.Tensor):
    folder = tmp_path / "masks"
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray((255 * picture).byte().numpy()).save(folder / f"{index:03d}.png")
    return folder


def test_pictures_from_files(tmp_path):
    chosen = Sphere([0.3, 0, 0], 0.7)(SCENE)
    pictures = pictures_of(chosen)
    folder = folder_of(tmp_path, pictures)
    want = lift(SCENE, CAMERAS, pictures, render)
    assert torch.equal(Pictures(folder)(SCENE, CONTEXT), want)
    assert (Pictures(folder, votes=3)(SCENE, CONTEXT) <= want).all()


def test_pictures_of_some_cameras_and_another_resolution(tmp_path):
    chosen = Sphere([0.3, 0, 0], 0.7)(SCENE)
    some = CAMERAS[[1, 4]].resized(2 * SIZE, 2 * SIZE)
    pictures = (coverage(SCENE, chosen, some) > 0.5).float()
    folder = folder_of(tmp_path, pictures)
    got = Pictures(folder, cameras=[1, 4])(SCENE, CONTEXT)
    assert torch.equal(got, lift(SCENE, some, pictures, render))


def test_wrong_pictures_are_one_line(tmp_path):
    folder = folder_of(tmp_path, torch.ones(6, SIZE, SIZE))

    def refused(message, mask, context=CONTEXT):
        with pytest.raises(UserError, match=message) as caught:
            mask(SCENE, context)
        assert "\n" not in str(caught.value)

    refused("6 pictures for 2 cameras", Pictures(folder, cameras=[0, 1]))
    refused("the scene has the cameras 0 to 5", Pictures(folder, cameras=[0, 1, 2, 3, 4, 6]))
    refused("mask.votes=7 is more than the 6 pictures", Pictures(folder, votes=7))
    refused("needs the cameras that its pictures", Pictures(folder), replace(CONTEXT, cameras=None))
    refused("no such file", Pictures(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    refused("holds no pictures", Pictures(tmp_path / "empty"))
    Image.new("L", (SIZE, SIZE // 2)).save(folder / "003.png")
    refused(r"003.png: is 48 x 24 pixels, 000.png 48 x 48; give all pictures one size", Pictures(folder))
    for index in range(6):
        Image.new("L", (SIZE, SIZE // 2), 255).save(folder / f"{index:03d}.png")
    refused("000.png: is 48 x 24 pixels, the cameras take 48 x 48", Pictures(folder))
    (folder / "000.png").write_bytes(b"junk")
    refused("000.png: not a picture that can be read", Pictures(folder))


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory):
    """A CLIPSeg of random weights and its tokenizer in a folder, as on the hub."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    folder = tmp_path_factory.mktemp("clipseg")
    tokenizer = tiny_parts()["tokenizer"]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config=small | {"vocab_size": len(tokenizer), "eos_token_id": 1, "max_position_embeddings": 77},
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        conditional_layer=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPSegForImageSegmentation(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_words_through_clipseg(clipseg, monkeypatch):
    """Random weights select something; a network that marks the left half selects what all views see there."""
    mask = Text("the hair", model=str(clipseg), level=0.01, views=3)
    with pytest.warns(UserWarning, match="nothing is protected"):
        assert mask(SCENE, CONTEXT).dtype == torch.bool
    left = torch.zeros(1, 32, 32)
    left[..., :16] = 9
    network, tokenizer, kind = mask._load(torch.device("cpu"))
    seen = {}

    def marks(**inputs):
        seen.update(inputs)
        return type("Output", (), {"logits": left - 4})()

    marks.config = network.config
    monkeypatch.setattr(mask, "_load", lambda device: (marks, tokenizer, kind))
    monkeypatch.setattr("gs_ssd.scene.masks.text._SIZE", 64)
    mask.level = 0.5
    views = CAMERAS[[0, 2, 5]].resized(64, 64)
    pictures = torch.zeros(3, 64, 64)
    pictures[..., :32] = 1
    got = mask(SCENE, CONTEXT)
    assert (got == lift(SCENE, views, pictures, render)).float().mean() > 0.95
    assert seen["pixel_values"].shape == (1, 3, 32, 32)
    assert seen["input_ids"].shape == seen["attention_mask"].shape == (1, 77)


@pytest.fixture(scope="module")
def sam3(tmp_path_factory):
    """A SAM 3 of random weights and its tokenizer in a folder."""
    from transformers import Sam3Config, Sam3Model

    folder = tmp_path_factory.mktemp("sam3")
    tokenizer = tiny_parts()["tokenizer"]
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    backbone = small | {
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "image_size": 112,
        "patch_size": 14,
    }
    backbone |= {"window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 56}
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = Sam3Config(
        vision_config={
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "backbone_config": backbone,
        },
        text_config=small
        | tokens
        | {"num_hidden_layers": 2, "projection_dim": 16, "max_position_embeddings": 32},
        geometry_encoder_config=small | {"num_layers": 1},
        detr_encoder_config=small | {"num_layers": 1},
        detr_decoder_config=small | {"num_layers": 1, "num_queries": 4},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Sam3Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_words_through_sam3(sam3):
    """The tiny network's own scores are what is lifted, at the level between its lowest and highest."""
    mask = Text("the hair", model=str(sam3), views=3)
    network, tokenizer, kind = mask._load(torch.device("cpu"))
    assert kind == "sam3"
    views = CAMERAS[[0, 2, 5]].resized(352, 352)
    with torch.no_grad():
        images = [render(SCENE, views[i]).rgb for i in range(3)]
        scores = torch.cat([mask._scores(image, network, tokenizer, kind) for image in images])
    assert scores.shape == (3, 352, 352) and 0 < scores.min() < scores.max() < 1
    mask.level = scores.median().item()
    want = lift(SCENE, views, scores >= mask.level, render)
    assert torch.equal(mask.find(SCENE, CONTEXT), want)


def test_a_model_that_is_not_there_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    nowhere = str(tmp_path / "nothing")
    for model, reason in ((nowhere, "no such folder"), ("CIDAS/clipseg-none", "the hub can't be reached")):
        with pytest.raises(
            UserError, match=r"mask=text needs the model .* or select with mask=prior"
        ) as caught:
            Text("hair", model=model)(SCENE, CONTEXT)
        assert "\n" not in str(caught.value) and f"{model}, which isn't here ({reason})" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_model_of_another_kind_is_one_line(tmp_path):
    tiny_parts()["text_encoder"].save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a clip_text_model model; give CLIPSeg or SAM 3"):
        Text("hair", model=str(tmp_path))(SCENE, CONTEXT)


@pytest.mark.parametrize("image_condition", [False, True])
def test_the_priors_opinion_is_asked_and_repeats(image_condition):
    prior = tiny_prior(image_condition=image_condition)
    context = replace(CONTEXT, prior=prior, source="a man", target="a clown")
    mask = Prior(views=2, noises=1, ratios=[0.5])
    assert torch.equal(mask(SCENE, context), mask(SCENE, context))
    same = replace(context, target="a man")
    with pytest.raises(UserError, match="holds no Gaussian; try another"):
        Prior(views=2, noises=1, ratios=[0.5], threshold=0.5)(SCENE, same)
    for name in ("prior", "source", "target"):
        with pytest.raises(UserError, match="mask=prior needs"):
            mask(SCENE, replace(context, **{name: None}))
    with pytest.raises(UserError, match="mask=prior needs the scene's frame"):
        mask(SCENE, replace(context, cameras=None, frame=None))


@pytest.mark.slow
def test_the_prior_finds_the_head_that_becomes_a_clowns():
    """At least 0.6 IoU, by rendered area from around, with the parts that the sample scene lets change."""
    from gs_ssd.diffusion.load import load_prior

    assert overlap(load_prior("embedded"), "face", "clown", Prior()) >= 0.6


def test_a_preview_shows_the_selection_in_orange():
    chosen = Sphere([0.3, 0, 0], 0.6)(SCENE)
    images = preview(SCENE, chosen, CAMERAS, render)
    assert images.shape == (6, SIZE, SIZE, 3) and images.min() >= 0 and images.max() <= 1
    share = coverage(SCENE, chosen, CAMERAS)
    warmth = images[..., 0] - images[..., 2]
    assert warmth[share > 0.7].mean() > warmth[share < 0.05].mean() + 0.2
    assert np.isfinite(images.numpy()).all()
