"""Write the prior as a diffusers folder, and sample from it."""

import copy
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import nn

from scripts.workshop.heads.attributes import COSTUMES, HAIR
from scripts.workshop.heads.vocabulary import words

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["gs_ssd.diffusion.patch_autoencoder", "PatchAutoencoder"],
}
PROMPTS = (
    "a photo of a man", "spider-man", "a man wearing a spider-man mask", "batman", "a clown", "the joker",
    "a marble statue of a man", "a bronze statue", "a golden statue", "a zombie", "a skull", "a robot", "iron man",
    "the hulk", "a man with a mustache", "a man with a beard", "an old man", "a man wearing sunglasses",
    "a man with red hair", "a man wearing a red hat", "a woman with blond hair", "a photo of a bald man",
    "spider-man, from behind", "a clown, side view",
)  # fmt: skip


def write_prior(folder: Path, models: dict[str, nn.Module], tokenizer, scheduler) -> None:
    """Replace the model parts in `folder`; the UNet is stored in half precision."""
    fresh = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name, model in models.items():
        stored = copy.deepcopy(model).half() if name == "unet" else model
        stored.save_pretrained(fresh / name, safe_serialization=True)
        config = fresh / name / "config.json"
        settings = json.loads(config.read_text())
        settings.pop("_name_or_path", None)  # where it lay on the machine that trained it
        config.write_text(json.dumps(settings, indent=2) + "\n")
    tokenizer.save_pretrained(fresh / "tokenizer")
    scheduler.save_pretrained(fresh / "scheduler")
    index = {**INDEX, "_diffusers_version": diffusers.__version__}
    (fresh / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    known = {"costumes": list(COSTUMES), "hair": list(HAIR), "words": words()}
    (fresh / "vocabulary.json").write_text(json.dumps(known, indent=1) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    for part in list(fresh.iterdir()):
        target = folder / part.name
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
    fresh.rmdir()


@torch.no_grad()
def sample(trainer, prompts, steps: int = 25, scale: float = 4.0, seed: int = 0) -> torch.Tensor:
    """DDIM with classifier-free guidance: latents [P, K, h, w]."""
    scheduler = diffusers.DDIMScheduler.from_config(trainer.scheduler.config)
    scheduler.set_timesteps(steps)
    config, n = trainer.unet.config, len(prompts)
    shape = (n, config.in_channels, config.sample_size, config.sample_size)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    ids = trainer.tokenizer(list(prompts), padding="max_length", max_length=trainer.null.shape[1]).input_ids
    tokens = torch.cat([torch.tensor(ids), trainer.null.expand(n, -1)])
    for t in scheduler.timesteps:
        eps_y, eps_0 = trainer.predict(torch.cat([z, z]), t.expand(2 * n), tokens).cpu().chunk(2)
        z = scheduler.step(eps_0 + scale * (eps_y - eps_0), t, z).prev_sample
    return z


def sample_sheet(trainer, autoencoder, path: Path, columns: int = 8) -> None:
    """A PNG of one sample for each prompt."""
    with torch.no_grad():
        images = autoencoder.decode(sample(trainer, PROMPTS)).sample.clamp(-1, 1)
    tiles = ((images + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(path)
