"""SSD on InstructPix2Pix (SSD paper, Eq 10).

With e_T = e(z,c_I,y), e_I = e(z,c_I,∅), e_u = e(z,∅,∅), ê_u = e(ẑ,∅,∅), where c_I is the source image:

    G = e_u + s_I (e_I − e_u) + s_T (e_T − e_I) − ê_u + λ(t)(z_t − ẑ_t)

Four evaluations; there is no source prompt, the target prompt is an instruction.
"""

from __future__ import annotations

import math

from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import Branch, Guidance, Step

E_TEXT = Branch("target", "target", image="source")
E_IMAGE = Branch("target", "null", image="source")
E_NONE = Branch("target", "null", image="none")
E_NONE_SRC = Branch("source", "null", image="none")


class SSDIP2P(Guidance):
    """Eq 10 with text scale `s_t`, image scale `s_i` and the identity weight `w_id`·e^{t_norm}."""

    name = "ssd_ip2p"
    takes_image = True
    freeu = True

    def __init__(self, *, s_t: float = 7.5, s_i: float = 1.5, w_id: float = 0.075) -> None:
        self.s_t, self.s_i, self.w_id = s_t, s_i, w_id

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {
            E_TEXT: self.s_t,
            E_IMAGE: self.s_i - self.s_t,
            E_NONE: 1 - self.s_i,
            E_NONE_SRC: -1.0,
        }

    def latent_term(self, step: Step) -> Tensor:
        return self.w_id * math.exp(step.t_norm) * (step.z_t - step.z_src_t)
