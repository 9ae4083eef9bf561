"""The forward process of a diffusion prior.

Notation (used by every guidance):
    α_t, σ_t   scales of the clean latents and of the noise at timestep index t in 0 … T-1
    z_t        α_t z + σ_t ε, the noisy latents

Variance-preserving models (Stable Diffusion 1 and 2, SDXL) have α_t = √ᾱ_t and σ_t = √(1 − ᾱ_t), where ᾱ_t is the
"cumulative alpha" of their schedulers. Rectified-flow models (SD 3, FLUX) have α_t = 1 − σ_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """α_t and σ_t for every timestep.

    Attributes:
        alphas, sigmas: [T] in float64 on the CPU, for steps read scalars from them.
        trained: the timesteps that the model was trained on, where that is a few of them; empty: all.
    """

    alphas: Tensor
    sigmas: Tensor
    trained: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.alphas.shape != self.sigmas.shape or self.alphas.ndim != 1:
            raise ValueError(
                f"alphas {tuple(self.alphas.shape)} and sigmas {tuple(self.sigmas.shape)} differ"
            )
        for name in ("alphas", "sigmas"):
            object.__setattr__(self, name, getattr(self, name).detach().double().cpu())

    @classmethod
    def variance_preserving(cls, alphas_cumprod: Tensor) -> NoiseSchedule:
        """α² + σ² = 1, from ᾱ_t [T]."""
        alpha_bar = alphas_cumprod.detach().double().tolist()
        # Python's power, not torch's root: the two may differ in the last bit, and an edit's bytes hang on it.
        return cls(
            torch.tensor([a**0.5 for a in alpha_bar], dtype=torch.float64),
            torch.tensor([(1 - a) ** 0.5 for a in alpha_bar], dtype=torch.float64),
        )

    @classmethod
    def scaled_linear(
        cls, *, beta_start: float = 0.00085, beta_end: float = 0.012, num_timesteps: int = 1000
    ) -> NoiseSchedule:
        """Stable Diffusion's schedule: β = linspace(√β_start, √β_end, T)²."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64) ** 2
        return cls.variance_preserving(torch.cumprod(1 - betas, dim=0))

    @classmethod
    def rectified_flow(cls, *, shift: float = 1.0, num_timesteps: int = 1000) -> NoiseSchedule:
        """α = 1 − σ, where u = (t + 1)/T is shifted towards noise: σ = shift·u/(1 + (shift − 1)u)."""
        u = torch.arange(1, num_timesteps + 1, dtype=torch.float64) / num_timesteps
        sigmas = shift * u / (1 + (shift - 1) * u)
        return cls(1 - sigmas, sigmas)

    @property
    def is_flow(self) -> bool:
        """Whether it is a rectified flow's."""
        return torch.allclose(self.alphas + self.sigmas, torch.ones_like(self.alphas))

    def __len__(self) -> int:
        return len(self.alphas)

    def alpha(self, t: int) -> float:
        return float(self.alphas[t])

    def sigma(self, t: int) -> float:
        return float(self.sigmas[t])

    def restricted(self, trained: Sequence[int]) -> NoiseSchedule:
        """The schedule of a model that was distilled to a few timesteps."""
        return replace(self, trained=tuple(trained))

    def nearest(self, t: int) -> int:
        """The timestep nearest to t that the model was trained on."""
        return min(self.trained, key=lambda known: abs(known - t), default=t)

    def add_noise(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """z_t = α_t z + σ_t ε."""
        return self.alpha(t) * z + self.sigma(t) * noise
