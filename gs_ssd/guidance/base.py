"""What a guidance is: a formula over noise predictions.

Notation (shared by every method's module):
    z, ẑ        clean latents of the target (edited) and the source (original) image, [B, C, h, w]
    ε           one noise sample, shared by target and source
    z_t, ẑ_t    √ᾱ_t z + σ_t ε and √ᾱ_t ẑ + σ_t ε
    y, ŷ, ∅, n  target, source, null (empty) and negative prompt
    e(z, c)     the prior's ε-prediction at timestep t
    G           the gradient that is injected as ∂L/∂z

A method lists the coefficient of each branch e(latent, prompt) it needs. The base class drops the branches whose
coefficient is zero, evaluates the rest in one batched call of the prior, and adds the method's latent term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.errors import UserError


@dataclass(frozen=True)
class Branch:
    """One noise prediction: which noisy latent under which prompt (and image condition, for InstructPix2Pix)."""

    latent: str  # "target" | "source"
    prompt: str  # "target" | "source" | "null" | "negative"
    image: str = "source"  # the image condition, "source" | "none"; ignored by priors that take none


TARGET_Y = Branch("target", "target")
TARGET_SRC = Branch("target", "source")
TARGET_NULL = Branch("target", "null")
TARGET_NEG = Branch("target", "negative")
SOURCE_SRC = Branch("source", "source")
SOURCE_NULL = Branch("source", "null")


@dataclass(frozen=True)
class Step:
    """Everything one evaluation of a guidance knows."""

    z: Tensor
    z_src: Tensor
    noise: Tensor
    t: int
    schedule: NoiseSchedule

    @property
    def z_t(self) -> Tensor:
        return self.schedule.add_noise(self.z, self.noise, self.t)

    @property
    def z_src_t(self) -> Tensor:
        return self.schedule.add_noise(self.z_src, self.noise, self.t)

    @property
    def t_norm(self) -> float:
        """The published code's normalised time, (t − 1)/T: its index runs one below the timestep."""
        return (self.t - 1) / len(self.schedule)


@dataclass(frozen=True)
class Conditions:
    """The text conditions of an edit, each [1, L, D], and the image condition of a step where the prior takes one."""

    text: dict[str, Tensor]
    image: Tensor | None = field(default=None)

    @classmethod
    def encode(cls, prior: DiffusionPrior, *, target: str, source: str, negative: str = "") -> Conditions:
        embeddings = prior.embed([target, source, "", negative])
        return cls(dict(zip(("target", "source", "null", "negative"), embeddings.split(1))))


class Guidance(ABC):
    """G = w(t)·(Σ_b a_b e_b + a_ε ε) + latent term, with coefficients that the method defines."""

    name: str
    takes_image: bool = False  # whether the formula needs a prior with an image condition
    freeu: bool = False  # whether its authors' code runs the UNet with FreeU, where the prior has that
    negative_prompt: str = ""  # n, where the user gives none

    @abstractmethod
    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        """a_b for each branch; a branch with coefficient zero is not evaluated."""

    def noise_coefficient(self) -> float:
        """a_ε: −1 for methods that subtract the drawn noise, else 0."""
        return 0.0

    def weight(self, t: int, schedule: NoiseSchedule) -> float:
        """w(t) in front of the noise predictions."""
        return 1.0

    def latent_term(self, step: Step) -> Tensor | float:
        """What the method adds without asking the prior."""
        return 0.0

    def prepare(self, prior: DiffusionPrior) -> None:
        """Get ready to run on the prior; raises UserError when the two don't fit together."""
        if self.takes_image and not prior.takes_image:
            raise UserError(
                f"guidance {self.name} and diffusion {prior.name} don't fit together; use diffusion=ip2p"
            )

    def check_generation(self, prior: DiffusionPrior) -> None:
        """Raise UserError unless method and prior can make something from nothing."""
        if self.needs_source(len(prior.schedule) // 2, prior.schedule):
            raise UserError(f"guidance={self.name} edits what is there; to generate, use nfsd, sds or vsd")
        if prior.takes_image:
            raise UserError(
                f"diffusion {prior.name} edits an image, and there is none; to generate, use another"
            )

    def evaluations(self, t: int, schedule: NoiseSchedule) -> int:
        """How many noise predictions per view the method needs at timestep t."""
        return sum(a != 0 for a in self.coefficients(t, schedule).values())

    def needs_source(self, t: int, schedule: NoiseSchedule) -> bool:
        """Whether the method looks at the source image or prompt, so that it edits but can't generate."""
        used = [branch for branch, a in self.coefficients(t, schedule).items() if a != 0]
        return any("source" in (branch.latent, branch.prompt) for branch in used)

    @torch.no_grad()
    def __call__(
        self,
        prior: DiffusionPrior,
        z: Tensor,
        *,
        z_src: Tensor,
        t: int,
        noise: Tensor,
        conditions: Conditions,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """G [B, C, h, w] at timestep t; no gradient of the caller's flows through the prior.

        `generator` is for methods that draw more than ε (CDS, VSD); it lives on the CPU.
        """
        prior.use_freeu(self.freeu)
        step = Step(z, z_src, noise, t, prior.schedule)
        coefficients = {b: a for b, a in self.coefficients(t, prior.schedule).items() if a != 0}
        combined = self.noise_coefficient() * noise
        for branch, eps in predict(prior, list(coefficients), step, conditions).items():
            combined = combined + coefficients[branch] * eps
        return self.weight(t, prior.schedule) * combined + self.latent_term(step)


def predict(
    prior: DiffusionPrior, branches: list[Branch], step: Step, conditions: Conditions
) -> dict[Branch, Tensor]:
    """Evaluate branches, without duplicates, in one batched call of the prior."""
    branches = list(dict.fromkeys(branches))
    if not branches:
        return {}
    batch = len(step.z)
    latents = {"target": step.z_t, "source": step.z_src_t}
    z_t = torch.cat([latents[b.latent] for b in branches])
    text = torch.cat([conditions.text[b.prompt].expand(batch, -1, -1) for b in branches])
    image = None
    if prior.takes_image and conditions.image is not None:
        none = torch.zeros_like(conditions.image)
        image = torch.cat([conditions.image if b.image == "source" else none for b in branches])
    return dict(zip(branches, prior.predict(z_t, step.t, text, image).split(batch)))


def inject_gradient(z: Tensor, grad: Tensor) -> Tensor:
    """The surrogate L = ½‖z − sg(z − G)‖²/B, whose gradient with respect to z is G/B."""
    return 0.5 * (z - (z - grad).detach()).pow(2).sum() / len(z)
