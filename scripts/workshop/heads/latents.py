"""Training tensors: latents of the rendered pictures and tokens of their captions."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder

# Coarse patches are little redundant, so noise hides less than in a finer latent grid; with unit spread the average
# colours survive even the last timestep and the model hardly needs its caption.
SPREAD = 0.75


@dataclass
class LatentSet:
    """latents half [N, K, h, w]; tokens [N, 2, L]; axis of each pair as a word; 2 i and 2 i + 1 are partners."""

    latents: Tensor
    tokens: Tensor
    axes: list[str]

    def __post_init__(self) -> None:
        counterfactual = torch.tensor([bool(a) for a in self.axes])
        self.pairs = torch.nonzero(counterfactual[::2]).flatten() * 2  # first members
        costume = torch.tensor([a == "costume" for a in self.axes])
        self.costume_pairs = torch.nonzero(costume[::2]).flatten() * 2
        self.singles = torch.arange(len(self.axes))


def read_images(path: Path) -> Tensor:
    """Pictures of a shard as floats [N, 3, S, S] in [-1, 1]."""
    return torch.from_numpy(np.load(path.with_suffix(".npy"))).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit_autoencoder(paths: list[Path], channels: int) -> PatchAutoencoder:
    """Fit the patch directions on pictures of a few shards."""
    images = torch.cat([read_images(p)[::4] for p in paths[:8]])
    return PatchAutoencoder(latent_channels=channels).fit(images, spread=SPREAD)


@torch.no_grad()
def load_latents(paths: list[Path], autoencoder: PatchAutoencoder, tokenizer) -> LatentSet:
    """Encode shards (cheap: one matrix product) and tokenize their captions."""
    latents, tokens, axes = [], [], []
    for path in tqdm(paths, desc="encode"):
        latents.append(autoencoder.encode(read_images(path)).latent_dist.mean.half())
        words = json.loads(path.with_suffix(".json").read_text())
        flat = [c for pair in words["captions"] for c in pair]
        ids = tokenizer(
            flat, padding="max_length", truncation=True, max_length=tokenizer.model_max_length
        ).input_ids
        tokens.append(torch.tensor(ids).view(len(words["captions"]), 2, -1))
        axes += words["axes"]
    return LatentSet(torch.cat(latents), torch.cat(tokens), axes)
