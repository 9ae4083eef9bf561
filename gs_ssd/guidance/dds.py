"""Delta Denoising Score (Hertz et al., ICCV 2023).

G = e^s(z,y) − e^s(ẑ,ŷ),   e^s(z,c) = e(z,∅) + s [e(z,c) − e(z,∅)]
"""

from __future__ import annotations

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import SOURCE_NULL, SOURCE_SRC, TARGET_NULL, TARGET_Y, Branch, Guidance, check_form


class DDS(Guidance):
    """DDS with classifier-free guidance scale `s`; `form` is "epsilon", or "velocity" on rectified-flow priors."""

    name = "dds"

    def __init__(self, *, s: float = 7.5, form: str = "epsilon") -> None:
        self.s, self.form = s, check_form(form)

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {
            TARGET_Y: self.s,
            TARGET_NULL: 1 - self.s,
            SOURCE_SRC: -self.s,
            SOURCE_NULL: self.s - 1,
        }
