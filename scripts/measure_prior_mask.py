"""How well `mask=prior` finds what an edit changes: `python scripts/measure_prior_mask.py`.

Prints a Markdown table of the intersection over union, by rendered area from twelve sides, of the prior's selection
with the truth. A costume's truth is head and neck: the parts that the sample scene lets change. That of hair and hat is
where the head that the generator paints with it differs from the source.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from gs_ssd import Scene
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.evaluation.truths import SUBTLE, truths
from gs_ssd.metrics.truth import DIFFERENT
from gs_ssd.render import render
from gs_ssd.render.coverage import coverage
from gs_ssd.samples import SUBJECTS
from gs_ssd.scene.masks import Prior
from gs_ssd.session.config import opened

PROMPTS = ("clown", "joker", "spiderman", "skull", "marble", "red_hair", "hat")
VIEWS, SIZE = 12, 96


@torch.no_grad()
def overlap(prior: DiffusionPrior, scene: str, prompt: str, mask: Prior) -> float:
    """Intersection over union of what `mask` selects with the truth of a sample `scene` and a ready-made `prompt`."""
    sample, known = Scene.sample(scene), opened([f"scene={scene}"])
    renderer = partial(render, background=torch.tensor(sample.background))
    said = {"source": known.words or "", "target": known.targets[prompt]}
    selected = sample.select(mask, renderer=renderer, prior=prior, **said)
    cameras = sample.turn(VIEWS, size=SIZE, elevation_degrees=4.0)
    found = coverage(sample.gaussians, selected.editable, cameras) > 0.5

    def pictures(gaussians) -> Tensor:
        return torch.cat([renderer(gaussians, cameras[i]).rgb for i in range(VIEWS)])

    if prompt in SUBTLE:
        changed = pictures(truths(scene, prompt)[0]) - pictures(sample.gaussians)
        true = changed.abs().amax(dim=-1) > DIFFERENT
    else:
        true = coverage(sample.gaussians, sample.editable, cameras) > 0.5
    return ((found & true).sum() / (found | true).sum()).item()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prior", default="embedded", help="an alias or a folder")
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--ratios", nargs="+", type=float, help="timesteps, in place of the mask's own")
    asked = parser.parse_args(argv)
    prior = load_prior(asked.prior)
    mask = Prior(**{"ratios": asked.ratios} if asked.ratios else {})
    print(f"| prompt | {' | '.join(SUBJECTS)} |\n|---|{'---|' * len(SUBJECTS)}", flush=True)
    for prompt in asked.prompts:
        row = [f"{overlap(prior, scene, prompt, mask):.2f}" for scene in SUBJECTS]
        print(f"| {prompt} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
