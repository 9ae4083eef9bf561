"""DreamCatalyst on InstructPix2Pix, as its authors' nerfstudio code runs it.

With e_T = e(z,c_I,y), e_I = e(z,c_I,∅), e_u = e(z,∅,∅), ê_I = e(ẑ,c_I,∅), ê_u = e(ẑ,∅,∅), and c_I the source image:

    ẽ = e_u + s_I (e_I − e_u) + s_T (e_T − e_I),   ê = ê_u + s_I (ê_I − ê_u)
    G = (δ + γ t_n^{1/e}) [ẽ − ê] + χ e^{t_n} (z − ẑ)

The source has no text term. Five evaluations (the published code makes six); the target prompt is an instruction. That
code encodes c_I from pixels in [0, 1]; here they are in [-1, 1], as InstructPix2Pix was trained.
"""

from __future__ import annotations

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import Branch
from gs_ssd.guidance.dreamcatalyst import DreamCatalyst
from gs_ssd.guidance.ssd_ip2p import E_IMAGE, E_NONE, E_NONE_SRC, E_TEXT

E_IMAGE_SRC = Branch("source", "null", image="source")


class DreamCatalystIP2P(DreamCatalyst):
    """DreamCatalyst with text scale `s_t` and image scale `s_i`; `delta`, `gamma` and `chi` as without the image."""

    name = "dreamcatalyst_ip2p"
    takes_image = True

    def __init__(
        self,
        *,
        s_t: float = 7.5,
        s_i: float = 1.5,
        delta: float = 0.2,
        gamma: float = 0.8,
        chi: float = 0.075,
    ) -> None:
        super().__init__(delta=delta, gamma=gamma, chi=chi)
        self.s_t, self.s_i = s_t, s_i

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {
            E_TEXT: self.s_t,
            E_IMAGE: self.s_i - self.s_t,
            E_NONE: 1 - self.s_i,
            E_IMAGE_SRC: -self.s_i,
            E_NONE_SRC: self.s_i - 1,
        }
