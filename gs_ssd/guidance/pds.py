"""Posterior Distillation Sampling (Koo et al., CVPR 2024).

The stochastic latent of the reverse step t → t − k, matched between target and source, has the closed form

    G = ψ_t (z − ẑ) + χ_t (e^s(z,y) − e^s(ẑ,ŷ))
    ψ = (α_p − c0 − c1 α_t)/σ̃,   χ = c0 σ_t/(α_t σ̃),   p = t − k
    c0 = α_p β_t/σ_t²,   c1 = a_t σ_p²/σ_t²,   σ̃² = β_t σ_p²/σ_t²

with the single step's a_t = α_t/α_{t−1} and β_t = σ_t² − a_t² σ_{t−1}² (for Stable Diffusion, √α_t and β_t of DDPM).
A consistent one-step posterior (k = 1) has ψ ≡ 0 and is DDS up to the factor χ. The published code takes p = t − 2
with single-step a_t and β_t; its identity term lives off that mismatch, so stride 2 is the default here.
"""

from __future__ import annotations

from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import Branch, Guidance, Step
from gs_ssd.guidance.dds import DDS


class PDS(Guidance):
    """PDS with classifier-free guidance scale `s` and posterior stride k (`stride`)."""

    name = "pds"

    def __init__(self, *, s: float = 100.0, stride: int = 2) -> None:
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        self.dds = DDS(s=s)
        self.s, self.stride = s, stride

    def factors(self, t: int, schedule: NoiseSchedule) -> tuple[float, float]:
        """(ψ_t, χ_t); raises ValueError at t = 0, which has no reverse step."""
        if t < 1:
            raise ValueError(f"PDS needs an earlier timestep, t = {t} has none")
        p = max(t - self.stride, 0)
        alpha, sigma, alpha_p, sigma_p = (
            schedule.alpha(t),
            schedule.sigma(t),
            schedule.alpha(p),
            schedule.sigma(p),
        )
        a = alpha / schedule.alpha(t - 1)
        beta = sigma**2 - (a * schedule.sigma(t - 1)) ** 2
        c0, c1 = alpha_p * beta / sigma**2, a * sigma_p**2 / sigma**2
        spread = beta**0.5 * sigma_p / sigma
        return (alpha_p - c0 - c1 * alpha) / spread, c0 * sigma / (alpha * spread)

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return self.dds.coefficients(t, schedule)

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        return self.factors(t, schedule)[1]

    def latent_term(self, step: Step) -> Tensor:
        return self.factors(step.t, step.schedule)[0] * (step.z - step.z_src)
