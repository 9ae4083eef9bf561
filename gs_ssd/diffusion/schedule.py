"""The forward process of a diffusion prior.

Notation (used by every guidance):
    ᾱ_t   cumulative alpha at timestep index t in 0 … T-1
    σ_t   √(1 − ᾱ_t)
    z_t   √ᾱ_t z + σ_t ε, the noisy latent
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """ᾱ_t for every timestep, `alphas_cumprod` [T] in float64 on the CPU: scalars are read from it, not tensors."""

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphas_cumprod", self.alphas_cumprod.detach().double().cpu())

    @classmethod
    def scaled_linear(
        cls, *, beta_start: float = 0.00085, beta_end: float = 0.012, num_timesteps: int = 1000
    ) -> NoiseSchedule:
        """Stable Diffusion's schedule: β = linspace(√β_start, √β_end, T)²."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1 - betas, dim=0))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def alpha_bar(self, t: int) -> float:
        return float(self.alphas_cumprod[t])

    def sigma(self, t: int) -> float:
        return (1 - self.alpha_bar(t)) ** 0.5

    def add_noise(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """z_t = √ᾱ_t z + σ_t ε."""
        return self.alpha_bar(t) ** 0.5 * z + self.sigma(t) * noise
