"""Classifier Score Distillation (Yu et al., ICLR 2024).

With δ_c(z) = e(z,c) − e(z,∅):

    generation:  G = w(t) w_a δ_y(z)                (w_b = 0), w(t) = σ_t² in the authors' code
    editing:     G = w_a δ_y(z) − w_b δ_ŷ(z)        (SSD paper, Eq 3)

The source image never enters, which is why the editing form drifts away from it.
"""

from __future__ import annotations

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import TARGET_NULL, TARGET_SRC, TARGET_Y, Branch, Guidance


class CSD(Guidance):
    """CSD with weights `w_a` on the target and `w_b` on the source classifier; w_a = w_b needs no null branch.

    `uniform=False` weighs by σ_t² = 1 − ᾱ_t, as the authors' generating code does; the editing form has no w(t).
    """

    name = "csd"

    def __init__(self, *, w_a: float = 7.5, w_b: float = 7.5, uniform: bool = True) -> None:
        self.w_a, self.w_b, self.uniform = w_a, w_b, uniform

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {TARGET_Y: self.w_a, TARGET_SRC: -self.w_b, TARGET_NULL: self.w_b - self.w_a}

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        return 1.0 if self.uniform else schedule.sigma(t) ** 2
