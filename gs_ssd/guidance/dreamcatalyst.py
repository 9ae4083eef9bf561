"""DreamCatalyst (Kim et al., ICLR 2025), with a text-only prior.

    G = (δ + γ t_n^{1/e}) [e^s(z,y) − e^s(ẑ,ŷ)] + χ e^{t_n} (z − ẑ)

The identity term acts on the clean latents; SSD's acts on the noisy ones and is √ᾱ_t times as large.
"""

from __future__ import annotations

import math

from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import Branch, Guidance, Step
from gs_ssd.guidance.dds import DDS


class DreamCatalyst(Guidance):
    """DreamCatalyst with the weights of the authors' nerfstudio code.

    Args:
        s: classifier-free guidance scale.
        delta, gamma: the weight of the delta score, δ + γ t_n^{1/e}.
        chi: identity weight χ.
    """

    name = "dreamcatalyst"
    freeu = True

    def __init__(self, *, s: float = 7.5, delta: float = 0.2, gamma: float = 0.8, chi: float = 0.075) -> None:
        self.dds = DDS(s=s)
        self.s, self.delta, self.gamma, self.chi = s, delta, gamma, chi

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return self.dds.coefficients(t, schedule)

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        t_norm = max(t - 1, 0) / len(schedule)
        return self.delta + self.gamma * t_norm ** (1 / math.e)

    def latent_term(self, step: Step) -> Tensor:
        return self.chi * math.exp(step.t_norm) * (step.z - step.z_src)
