"""Score Distillation Sampling (Poole et al., DreamFusion, ICLR 2023).

G = w(t) (e^s(z,y) − ε),   e^s(z,y) = e(z,∅) + s [e(z,y) − e(z,∅)],   w(t) = σ_t²
"""

from __future__ import annotations

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import TARGET_NULL, TARGET_Y, Branch, Guidance


class SDS(Guidance):
    """SDS with classifier-free guidance scale `s` (100 is the published choice for Stable Diffusion).

    `uniform=True` drops w(t), as the DDS authors' 2D baseline does (with s = 7.5).
    """

    name = "sds"

    def __init__(self, *, s: float = 100.0, uniform: bool = False) -> None:
        self.s, self.uniform = s, uniform

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {TARGET_Y: self.s, TARGET_NULL: 1 - self.s}

    def noise_coefficient(self) -> float:
        return -1.0

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        return 1.0 if self.uniform else schedule.sigma(t) ** 2
