"""The shipped prior: loadable, small, and better with its caption than without."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder
from scripts.workshop.heads.attributes import COSTUMES, Head, sample_shape, wear
from scripts.workshop.heads.captions import NAMES
from scripts.workshop.heads.figure import build
from scripts.workshop.heads.render import Light, background, orbit, shade, splat

PRIOR = Path(__file__).resolve().parents[2] / "data" / "prior"


@pytest.fixture(scope="module")
def prior():
    class Parts:
        unet = UNet2DConditionModel.from_pretrained(PRIOR / "unet", torch_dtype=torch.float32).eval()
        text = CLIPTextModel.from_pretrained(PRIOR / "text_encoder").float().eval()
        tokenizer = CLIPTokenizer.from_pretrained(PRIOR / "tokenizer")
        vae = PatchAutoencoder.from_pretrained(PRIOR / "vae")
        scheduler = DDIMScheduler.from_pretrained(PRIOR / "scheduler")

        @torch.no_grad()
        def error(self, latents, captions, t):
            """MSE of the clean latents as v would show it, the same noise for every call."""
            eps = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
            a = self.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
            ids = self.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
            z_t = a.sqrt() * latents + (1 - a).sqrt() * eps
            answer = self.unet(z_t, t, self.text(ids).last_hidden_state).sample
            return ((answer - latents).pow(2) / (1 - a)).mean((1, 2, 3))

    return Parts()


@pytest.fixture(scope="module")
def dressed():
    """Unseen heads, one for each costume and view: pictures [2 C, 3, 128, 128] in [-1, 1] and plain captions."""
    rng, pictures, captions = np.random.default_rng(987_654), [], []
    for costume in COSTUMES:
        head = wear(replace(Head(), shape=sample_shape(rng, False, False)), costume)
        figure, light = build(head, 0.6), Light.sample(rng)
        colour = shade(figure.albedo, figure.normal, figure.gloss, light)
        for yaw in (0, 70):
            camera, wall = orbit(yaw, 3, 128), background(rng, 128)
            pictures.append(splat(camera, figure.position, figure.normal, figure.sigma, colour, wall))
            captions.append(f"a photo of {NAMES[costume][0]}")
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() * 2 - 1, captions


def test_folder_is_small_and_safe():
    files = [f for f in PRIOR.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 25e6
    assert max(f.stat().st_size for f in files) < 24e6
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".md", ".txt", ".png"}
    assert json.loads((PRIOR / "model_index.json").read_text())["vae"][1] == "PatchAutoencoder"


def test_every_word_is_one_token(prior):
    vocabulary = json.loads((PRIOR / "vocabulary.json").read_text())
    assert set(vocabulary["costumes"]) == set(COSTUMES)
    assert [w for w in vocabulary["words"] if len(prior.tokenizer(w).input_ids) != 3] == []
    assert len(prior.tokenizer) == prior.text.config.vocab_size


def test_scheduler_is_the_usual_one(prior):
    config = prior.scheduler.config
    assert (config.beta_schedule, config.beta_start, config.beta_end) == ("scaled_linear", 0.00085, 0.012)
    assert config.prediction_type == "sample" and config.steps_offset == 1
    assert not config.clip_sample and not config.set_alpha_to_one


def test_patches_keep_the_picture(prior, dressed):
    x = dressed[0]
    psnr = -10 * ((prior.vae(x).sample.clamp(-1, 1) - x) / 2).pow(2).mean((1, 2, 3)).log10()
    assert psnr.mean() > 30


def test_captions_help_on_unseen_heads(prior, dressed):
    """Own caption beats the empty one, and the empty one beats the caption of another costume."""
    pictures, captions = dressed
    z = prior.vae.encode(pictures).latent_dist.mean
    t = torch.arange(len(z)) * 400 // len(z) + 400
    own = prior.error(z, captions, t).mean()
    null = prior.error(z, [""] * len(z), t).mean()
    other = prior.error(z, captions[-10:] + captions[:-10], t).mean()
    assert own < 0.97 * null < other
