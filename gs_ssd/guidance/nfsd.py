"""Noise-Free Score Distillation (Katzir et al., ICLR 2024).

    G = w(t) (δ_D + s δ_y(z)),   δ_y(z) = e(z,y) − e(z,∅)
    δ_D = e(z,∅)             for t < 200 of 1000
    δ_D = e(z,∅) − e(z,n)    otherwise

The drawn noise ε never enters. Below t = 200 the coefficients sum to 1, so |G| jumps at the threshold. Above it, only
the negative prompt keeps the picture natural: a prior that has seen no bad pictures needs a higher threshold.
"""

from __future__ import annotations

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import TARGET_NEG, TARGET_NULL, TARGET_Y, Branch, Guidance

NEGATIVE_PROMPT = (
    "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
)


class NFSD(Guidance):
    """NFSD with classifier-free guidance scale `s`; `threshold` is a share of the timesteps, strict.

    `uniform=False` weighs by σ_t², as ports of the method do; the authors leave w(t) open.
    """

    name = "nfsd"
    negative_prompt = NEGATIVE_PROMPT

    def __init__(self, *, s: float = 7.5, uniform: bool = True, threshold: float = 0.2) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold} must be a share of the timesteps, from 0 to 1")
        self.s, self.uniform, self.threshold = s, uniform, threshold

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        negative = 0.0 if t < self.threshold * len(schedule) else -1.0
        return {TARGET_Y: self.s, TARGET_NULL: 1 - self.s, TARGET_NEG: negative}

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        return 1.0 if self.uniform else schedule.sigma(t) ** 2
