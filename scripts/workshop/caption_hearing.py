"""How much of a caption a prior hears: the error under the partner's caption over that under a picture's own.

    python scripts/workshop/caption_hearing.py [--prior FOLDER] [--groups 24]

Counterfactual pairs that no training saw: one head, view and light with one thing changed. Both members are noised at
t from 305 to 995 and denoised under their own captions and under each other's. Printed for each kind of change is the
ratio of the two errors of v, inside the pairs' difference, with its standard error over the heads; 1: the caption tells
the prior nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.prior import DiffusionPrior
from scripts.workshop.heads.attributes import AXES
from scripts.workshop.heads.dataset import Sample, sample_group
from scripts.workshop.train_prior import difference

SIZE, SEED = 128, 9_000_000  # pixels; far from the seeds of the training's shards


def errors(prior: DiffusionPrior, pairs: list[tuple[Sample, Sample]], seed: int) -> tuple[float, float]:
    """Squared errors of v under the members' own captions and under their partners', summed inside the difference."""
    members = [pair[k] for k in (0, 1) for pair in pairs]
    pixels = torch.from_numpy(np.stack([member.image for member in members])).float() / 255
    x = torch.cat([prior.encode(one) for one in pixels[:, None]])
    text = prior.encode_prompt([member.captions[0] for member in members])
    generator, n = torch.Generator().manual_seed(seed), len(pairs)
    noise = torch.randn((n, *x.shape[1:]), generator=generator).repeat(2, 1, 1, 1)
    times = torch.randint(305, 996, (n,), generator=generator).repeat(2)
    inside = difference(x[:n], x[n:]).float().repeat(2, 1, 1, 1)
    partners = text.map(lambda value: value.roll(n, 0))
    own, other = 0.0, 0.0
    for i in range(2 * n):
        said, unsaid = text.map(lambda v, i=i: v[i : i + 1]), partners.map(lambda v, i=i: v[i : i + 1])
        own += v_error(prior, x[i], noise[i], int(times[i]), said, inside[i])
        other += v_error(prior, x[i], noise[i], int(times[i]), unsaid, inside[i])
    return own, other


def v_error(prior: DiffusionPrior, x: Tensor, noise: Tensor, t: int, text, inside: Tensor) -> float:
    """|v - v*|^2 inside, of one latent [C, h, w]: the squared error of the noise over alpha^2."""
    alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
    found = prior.predict_noise((alpha * x + sigma * noise)[None], t, text)[0]
    return float(((found - noise).pow(2) * inside).sum() / alpha**2)


def report(name: str, found: list[tuple[float, float]]) -> str:
    """The ratio of the sums, and its standard error by leaving one head out at a time."""
    own, partner = np.array(found).T
    left_out = (partner.sum() - partner) / (own.sum() - own)
    error = np.sqrt((len(own) - 1) * left_out.var())
    return f"{name:12s} {partner.sum() / own.sum():.2f} \u00b1 {error:.2f}   ({len(own)} heads)"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prior", default="embedded", help="a name or a folder")
    parser.add_argument(
        "--groups", type=int, default=24, help="heads for each kind of change, two views of each"
    )
    args = parser.parse_args()
    prior = load_prior(args.prior, device="cpu", offline=True)
    for number, axis in enumerate(AXES):
        rng = np.random.default_rng(SEED + number)
        found = [
            errors(prior, sample_group(rng, SIZE, views=2, axis=axis), seed) for seed in range(args.groups)
        ]
        print(report("long hair" if axis == "style" else axis, found), flush=True)


if __name__ == "__main__":
    main()
