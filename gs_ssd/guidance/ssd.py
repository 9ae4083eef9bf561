"""Stable Score Distillation (Zhu et al., ICCV 2025), equations 5-9.

    G_ssd   = w_p [e(z,y) − e(z,ŷ)]  +  w_t [e(z,ŷ) − e(ẑ,∅)]     cross-prompt + cross-trajectory   (Eq 6)
    G_align = w_e [e(z,y) − e(z,∅)]                                prompt enhancement                (Eq 7)
    G_ID    = λ(t) (z_t − ẑ_t)                                     identity, on the noisy latents    (Eq 8)
    G       = G_ssd + G_align + G_ID                                                                (Eq 9)

Equation 5, e(z,ŷ) + s(e(z,y) − e(z,ŷ)) − e(ẑ,∅), is w_p = s, w_t = 1, w_e = λ = 0.

The published code halves its "guidance scale" 7.5 and "image scale" 2.0 inside the loss, so what it runs is
w_p = 3.75, w_t = 1.0, w_e = 5.5: the defaults here, without hidden factors.
"""

from __future__ import annotations

import math

from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import (
    SOURCE_NULL,
    TARGET_NULL,
    TARGET_SRC,
    TARGET_Y,
    Branch,
    Guidance,
    Step,
    check_form,
)

ID_SCHEDULES = {"exp": math.exp, "linear": lambda t_norm: t_norm, "const": lambda t_norm: 1.0}


class SSD(Guidance):
    """SSD + align + ID.

    Args:
        w_p: cross-prompt weight.
        w_t: cross-trajectory weight; 0 loses the source, as the paper's Figure 5 shows.
        w_e: prompt-enhancement ("align") weight.
        w_id: identity weight; λ(t) = w_id · {exp(t_norm) | t_norm | 1}.
        id_schedule: "exp" (published), "linear" or "const".
        form: "epsilon", or "velocity" on rectified-flow priors (see `Guidance`).
    """

    name = "ssd"
    freeu = True

    def __init__(
        self,
        *,
        w_p: float = 3.75,
        w_t: float = 1.0,
        w_e: float = 5.5,
        w_id: float = 0.075,
        id_schedule: str = "exp",
        form: str = "epsilon",
    ) -> None:
        if id_schedule not in ID_SCHEDULES:
            raise ValueError(f"id_schedule={id_schedule!r} is none of {', '.join(ID_SCHEDULES)}")
        self.w_p, self.w_t, self.w_e, self.w_id = w_p, w_t, w_e, w_id
        self.id_schedule, self.form = id_schedule, check_form(form)

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {
            TARGET_Y: self.w_p + self.w_e,
            TARGET_SRC: self.w_t - self.w_p,
            TARGET_NULL: -self.w_e,
            SOURCE_NULL: -self.w_t,
        }

    def latent_term(self, step: Step) -> Tensor:
        return self.w_id * ID_SCHEDULES[self.id_schedule](step.t_norm) * (step.z_t - step.z_src_t)
