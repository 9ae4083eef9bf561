"""Stable Score Distillation (Zhu et al., ICCV 2025), equations 5-9.

    G_ssd   = w_p [e(z,y) − e(z,ŷ)]  +  w_t [e(z,ŷ) − e(ẑ,∅)]     cross-prompt + cross-trajectory   (Eq 6)
    G_align = w_e [e(z,y) − e(z,∅)]                                prompt enhancement                (Eq 7)
    G_ID    = λ(t) (z_t − ẑ_t)                                     identity, on the noisy latents    (Eq 8)
    G       = G_ssd + G_align + G_ID                                                                (Eq 9)

Equation 5, e(z,ŷ) + s(e(z,y) − e(z,ŷ)) − e(ẑ,∅), is w_p = s, w_t = 1, w_e = λ = 0.

The published code halves its "guidance scale" 7.5 and "image scale" 2.0 inside the loss, so what it runs is
w_p = 3.75, w_t = 1.0, w_e = 5.5: the defaults here, without hidden factors.

Ours, and off by default, is `hold`: where a step asks for little change, the source is asked for. With
Δ = (z − ẑ) − (σ_t/α_t)(G_ssd + G_align), the change that the step asks for in all, and ‖Δ‖ its length over the channels
of one cell of the latents, (α_t/σ_t)(z − ẑ − m Δ) takes the place of G_ssd + G_align, where

    m = max(0, 1 − (hold/‖Δ‖)²)                                      the non-negative garrote (Breiman, 1995)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.errors import UserError
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
        hold: a cell of the latents that is asked to change by less than this stays as the source has it, and others
            change by a little less than asked; 0, as published: never. Only in the form "epsilon".
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
        hold: float = 0.0,
    ) -> None:
        if id_schedule not in ID_SCHEDULES:
            raise ValueError(f"id_schedule={id_schedule!r} is none of {', '.join(ID_SCHEDULES)}")
        self.w_p, self.w_t, self.w_e, self.w_id = w_p, w_t, w_e, w_id
        self.id_schedule, self.form = id_schedule, check_form(form)
        self.hold = number("guidance.hold", hold, least=0)

    def prepare(self, prior: DiffusionPrior) -> None:
        super().prepare(prior)
        if self.hold and self.form == "velocity":
            raise UserError(f"guidance.hold={self.hold:g} needs guidance.form=epsilon; set one of them")

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {
            TARGET_Y: self.w_p + self.w_e,
            TARGET_SRC: self.w_t - self.w_p,
            TARGET_NULL: -self.w_e,
            SOURCE_NULL: -self.w_t,
        }

    def latent_term(self, step: Step) -> Tensor:
        return self.w_id * ID_SCHEDULES[self.id_schedule](step.t_norm) * (step.z_t - step.z_src_t)

    @torch.no_grad()
    def __call__(self, prior: DiffusionPrior, step: Step) -> Tensor:
        gradient = super().__call__(prior, step)
        if self.hold == 0:
            return gradient
        identity = self.latent_term(step)
        return held(gradient - identity, step, self.hold) + identity


def held(score: Tensor, step: Step, least: float) -> Tensor:
    """The score G_ssd + G_align [B, C, h, w] with changes shorter than `least` left out (see the module)."""
    ratio = step.schedule.alpha(step.t) / step.schedule.sigma(step.t)
    pull = ratio * (step.z - step.z_src)
    asked = pull - score  # ratio · Δ; where σ = 1, ratio is 0 and the score stays
    length = asked.norm(dim=1, keepdim=True)
    share = 1 - (least * ratio / length.clamp_min(least * ratio + 1e-12)).square()
    return pull - share * asked
