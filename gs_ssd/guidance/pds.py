"""Posterior Distillation Sampling (Koo et al., CVPR 2024).

The stochastic latent of the reverse step t → t − k, matched between target and source, has the closed form

    G = ψ_t (z − ẑ) + χ_t (e^s(z,y) − e^s(ẑ,ŷ))
    ψ = (√ᾱ_p − c0 − c1 √ᾱ_t)/σ̃,   χ = c0 σ_t/(√ᾱ_t σ̃),   p = t − k
    c0 = √ᾱ_p β_t/(1 − ᾱ_t),   c1 = √α_t (1 − ᾱ_p)/(1 − ᾱ_t),   σ̃² = β_t (1 − ᾱ_p)/(1 − ᾱ_t)

A consistent one-step posterior (k = 1) has ψ ≡ 0 and is DDS up to the factor χ. The published code takes p = t − 2
with single-step α_t and β_t; its identity term lives off that mismatch, so stride 2 is the default here.
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
        self.dds, self.stride = DDS(s=s), stride

    def factors(self, t: int, schedule: NoiseSchedule) -> tuple[float, float]:
        """(ψ_t, χ_t); raises ValueError at t = 0, which has no reverse step."""
        if t < 1:
            raise ValueError(f"PDS needs an earlier timestep, t = {t} has none")
        alpha_bar, alpha_bar_p = schedule.alpha_bar(t), schedule.alpha_bar(max(t - self.stride, 0))
        alpha = alpha_bar / schedule.alpha_bar(t - 1)
        beta = 1 - alpha
        c0 = alpha_bar_p**0.5 * beta / (1 - alpha_bar)
        c1 = alpha**0.5 * (1 - alpha_bar_p) / (1 - alpha_bar)
        sigma = ((1 - alpha_bar_p) / (1 - alpha_bar) * beta) ** 0.5
        psi = (alpha_bar_p**0.5 - c0 - c1 * alpha_bar**0.5) / sigma
        return psi, c0 * (1 - alpha_bar) ** 0.5 / (alpha_bar**0.5 * sigma)

    def coefficients(self, t, schedule) -> dict[Branch, float]:
        return self.dds.coefficients(t, schedule)

    def weight(self, t, schedule) -> float:
        return self.factors(t, schedule)[1]

    def latent_term(self, step: Step) -> Tensor:
        return self.factors(step.t, step.schedule)[0] * (step.z - step.z_src)
