"""A diffusion prior in closed form: every prompt's images are Gaussian, so its ε-prediction is exact.

With p(z | c) = N(X_c, s² I) the optimal noise prediction is

    e(z_t, c) = σ_t (z_t − α_t X_c) / (α_t² s² + σ_t²)

and s = 0 gives the point predictor (z_t − α_t X_c) / σ_t, for which every guidance has a closed form.
It is the tests' oracle, and it documents what a prior is without a network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition


class GaussianPrior(DiffusionPrior):
    """Knows the prompts in `means` (prompt → X_c [C, h, w]); latents are the pixels themselves (C = 3)."""

    name = "gaussian"
    vae_scale_factor = 1

    def __init__(
        self, means: dict[str, Tensor], *, std: float = 0.0, schedule: NoiseSchedule | None = None
    ) -> None:
        self.prompts = list(means)
        self.means = torch.stack([means[prompt] for prompt in self.prompts])
        self.std = std
        self.schedule = schedule or NoiseSchedule.scaled_linear()
        self.resolution = self.means.shape[-1]

    def encode(self, rgb: Tensor) -> Tensor:
        return rgb.permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        return z.detach().permute(0, 2, 3, 1).clamp(0, 1)

    def encode_prompt(self, prompts: list[str]) -> TextCondition:
        """The prompt's index as a single "token" of one channel."""
        index = [self.prompts.index(prompt) for prompt in prompts]
        return TextCondition(torch.tensor(index, dtype=self.means.dtype).reshape(-1, 1, 1))

    def predict_noise(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        mean = self.means[text.hidden[:, 0, 0].long()]
        return sigma * (z_t - alpha * mean) / (alpha**2 * self.std**2 + sigma**2)
