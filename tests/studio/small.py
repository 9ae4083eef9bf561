"""A studio of a tiny scene with a closed-form prior: an edit of some milliseconds per step."""

from __future__ import annotations

from pathlib import Path

import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.scene import save_gaussians
from gs_ssd.studio.history import Settings
from gs_ssd.studio.workspace import Workspace
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE

SIZE = 32
SETTINGS = Settings("grey", "red", steps=6)


class KnowsTwo(GaussianPrior):
    """Knows two words, and says so."""

    def unknown_words(self, prompt: str) -> list[str]:
        return [word for word in prompt.split() if word not in self.prompts]

    def nearest_words(self, word: str) -> list[str]:
        return ["red"]

    def encode_prompt(self, prompts):
        return super().encode_prompt([p if p in self.prompts else "" for p in prompts])


def prior() -> GaussianPrior:
    grey = torch.full((3, SIZE, SIZE), 0.5)
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1).expand(3, SIZE, SIZE)
    return KnowsTwo({"": grey, "grey": grey, "red": red}, std=0.3)


def scene_file(folder: Path, count: int = 300, seed: int = 0) -> Path:
    path = folder / f"small{seed}.ply"
    save_gaussians(random_gaussians(count, seed=seed), path)
    return path


def workspace(folder: Path, **settings) -> Workspace:
    words = [f"scene={scene_file(folder)}", "scene.views.count=8"]
    further = ["densify.every=2", "densify.start=2", "densify.percent=0.1", "densify.max_size=0.05"]
    return Workspace(words, folder=folder / "sessions", further=further, device="cpu", load=prior, **settings)


def edited(folder: Path, settings: Settings = SETTINGS) -> Workspace:
    """A workspace with one edit."""
    studio = workspace(folder)
    studio.start(settings)
    assert studio.wait(PATIENCE)
    return studio
