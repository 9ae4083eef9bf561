"""Variational Score Distillation (Wang et al., ProlificDreamer, NeurIPS 2023).

    G = w(t) (e^s(z,y) − e_φ(z,y)),   w(t) = σ_t²

e_φ is the prior with low-rank adapters φ, trained beside the edit to predict the noise of the current latents:

    min_φ ‖e_φ(√ᾱ_{t'} z + σ_{t'} ε', y) − ε'‖²,   t' ~ U{0, …, T − 1}, one AdamW step per evaluation of G

The published method also gives e_φ the camera; ours does not, so in 3D it learns the mean over the views. There is
no source term: VSD generates, and as an editor it only starts from the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.guidance.base import TARGET_NULL, TARGET_Y, Branch, Guidance, Step

if TYPE_CHECKING:
    from gs_ssd.diffusion.lora import LoraTwin

INITS = ("kaiming", "gaussian")


class VSD(Guidance):
    """VSD with classifier-free guidance scale `s`.

    Args:
        s: guidance scale of the frozen prior; the adapted one is not guided.
        rank: of the adapters.
        lr: their AdamW learning rate.
        init: how the adapters' first matrix starts: "kaiming", peft's own, or "gaussian", the published N(0, 1/rank),
            about 8 times as large in Stable Diffusion's widest layers, with which they learn faster at first.

    Raises UserError for a prior without attention.
    """

    name = "vsd"

    def __init__(self, *, s: float = 7.5, rank: int = 4, lr: float = 1e-4, init: str = "kaiming") -> None:
        if rank < 1 or not lr > 0:
            raise ValueError(f"rank={rank} must be at least 1 and lr={lr} above 0")
        if init not in INITS:
            raise ValueError(f"init={init!r} is none of {', '.join(INITS)}")
        self.s, self.rank, self.lr, self.init = s, rank, lr, init
        self.lora: LoraTwin | None = None

    def prepare(self, prior: DiffusionPrior) -> None:
        super().prepare(prior)
        if self.lora is None or self.lora.prior is not prior:
            # Imported here: diffusers and peft take seconds that only this method needs to wait.
            from gs_ssd.diffusion.lora import LoraTwin

            self.lora = LoraTwin(prior, rank=self.rank, lr=self.lr, init=self.init)

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.lora is None else self.lora.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if self.lora is None:
            raise ValueError("vsd has no adapters to restore before it is prepared for a prior")
        self.lora.load_state_dict(state)

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return {TARGET_Y: self.s, TARGET_NULL: 1 - self.s}

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        return schedule.sigma(t) ** 2

    def evaluations(self, t: int, schedule: NoiseSchedule) -> int:
        return super().evaluations(t, schedule) + 1

    def __call__(self, prior: DiffusionPrior, step: Step) -> Tensor:
        self.prepare(prior)
        assert self.lora is not None
        guided = super().__call__(prior, step)
        text = step.text_of("target")
        variational = self.lora.predict_noise(step.z_t.detach(), step.t, text, step.image)
        self.lora.train_step(step.z, text, step.image, step.generator, step.ranks)
        return guided - self.weight(step.t, step.schedule) * variational
