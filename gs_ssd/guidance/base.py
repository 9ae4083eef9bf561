"""What a guidance is: a formula over noise predictions.

Notation (shared by every method's module):
    z, ẑ        clean latents of the target (edited) and the source (original) image, [B, C, h, w]
    ε           one noise sample, shared by target and source
    z_t, ẑ_t    α_t z + σ_t ε and α_t ẑ + σ_t ε; for Stable Diffusion, α_t = √ᾱ_t
    y, ŷ, ∅, n  target, source, null (empty) and negative prompt
    e(z, c)     the prior's ε-prediction at timestep t
    G           the gradient that is injected as ∂L/∂z

A method lists the coefficient of each branch e(latent, prompt) it needs. The base class drops the branches whose
coefficient is zero, evaluates the rest in one batched call of the prior, and adds the method's latent term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.errors import UserError
from gs_ssd.ranks import ALONE, Ranks


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
    """Everything one evaluation of a guidance knows.

    Attributes:
        z, z_src, noise: z, ẑ and ε, each [B, C, h, w].
        t, schedule: the timestep and the prior's noise schedule.
        text: the conditions of the prompts by name ("target", "source", "null", "negative"), of one prompt or of B.
        image: the image condition [B, C, h, w] of a prior that takes one.
        generator: for methods that draw more than ε (CDS, VSD); it lives on the CPU.
        ranks: the processes whose steps these B images are a part of, for methods that learn (VSD).
    """

    z: Tensor
    z_src: Tensor
    noise: Tensor
    t: int
    schedule: NoiseSchedule
    text: dict[str, TextCondition]
    image: Tensor | None = None
    generator: torch.Generator | None = None
    ranks: Ranks = ALONE

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

    def text_of(self, prompt: str) -> TextCondition:
        """The condition of a named prompt, one for each image."""
        return self.text[prompt].expand(len(self.z))


def encode_prompts(
    prior: DiffusionPrior, *, target: str, source: str, negative: str = ""
) -> dict[str, TextCondition]:
    """The text conditions that guidances ask for, each of one prompt."""
    records = prior.encode_prompt([target, source, "", negative]).split()
    return dict(zip(("target", "source", "null", "negative"), records))


FORMS = ("epsilon", "velocity")


class Guidance(ABC):
    """G = w(t)·(Σ_b a_b e_b + a_ε ε) + latent term, with coefficients that the method defines.

    On a rectified-flow prior a method may offer the form in velocities, v = ε − z, where e = z_t + α v: Σ_b a_b v_b in
    place of Σ_b a_b e_b. The form in ε is the default everywhere. The two differ by the factor α and an identity
    term: with A the sum of the target's coefficients and −A that of the source's,

        Σ a_b v_b = (1/α) Σ a_b e_b − A (z − ẑ)

    The velocity form pushes away from the source by A (z − ẑ), so that its fixed points move with t: for point
    predictors DDS rests at z − ẑ = (X_y − X_ŷ)/(1 − σ) in place of X_y − X_ŷ, and for wide Gaussians nowhere below
    σ = 1/2.
    """

    name: str
    takes_image: bool = False  # whether the formula needs a prior with an image condition
    freeu: bool = False  # whether its authors' code runs the UNet with FreeU, where the prior has that
    negative_prompt: str = ""  # n, where the user gives none
    form: str = "epsilon"  # or "velocity"

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
        if self.form == "velocity" and not prior.schedule.is_flow:
            raise UserError(
                f"guidance.form=velocity is for rectified-flow models, such as sd35 and flux2, and {prior.name} "
                "is none; use guidance.form=epsilon"
            )
        if not prior.has_null and self.needs_null(prior.schedule):
            raise UserError(
                f"guidance={self.name} compares with the empty prompt, which {prior.name} was not trained on: its "
                "guidance is distilled into it; use guidance=csd, or sds or dds with guidance.s=1, or another model"
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

    def needs_null(self, schedule: NoiseSchedule) -> bool:
        """Whether the method asks for the empty or the negative prompt at some timestep."""
        return any(
            branch.prompt in ("null", "negative")
            for t in (1, len(schedule) // 2, len(schedule) - 1)
            for branch, a in self.coefficients(t, schedule).items()
            if a != 0
        )

    def needs_source(self, t: int, schedule: NoiseSchedule) -> bool:
        """Whether the method looks at the source image or prompt, so that it edits but can't generate."""
        used = [branch for branch, a in self.coefficients(t, schedule).items() if a != 0]
        return any("source" in (branch.latent, branch.prompt) for branch in used)

    def state_dict(self) -> dict[str, Tensor]:
        """What the method has learned so far, as tensors; empty for methods that don't learn."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict` of the same method, after `prepare`. Raises ValueError where they don't match."""
        if state:
            raise ValueError(
                f"guidance {self.name} has no state to restore, got {', '.join(sorted(state)[:3])}"
            )

    @torch.no_grad()
    def __call__(self, prior: DiffusionPrior, step: Step) -> Tensor:
        """G [B, C, h, w] of a step; no gradient of the caller's flows through the prior."""
        coefficients = {b: a for b, a in self.coefficients(step.t, step.schedule).items() if a != 0}
        combined = self.noise_coefficient() * step.noise
        for branch, eps in predict_branches(prior, list(coefficients), step, freeu=self.freeu).items():
            combined = combined + coefficients[branch] * eps
        if self.form == "velocity":
            combined = as_velocity(combined, coefficients, step)
        return self.weight(step.t, step.schedule) * combined + self.latent_term(step)


def predict_branches(
    prior: DiffusionPrior, branches: list[Branch], step: Step, *, freeu: bool = False
) -> dict[Branch, Tensor]:
    """Evaluate branches, without duplicates, in one batched call of the prior."""
    branches = list(dict.fromkeys(branches))
    if not branches:
        return {}
    latents = {"target": step.z_t, "source": step.z_src_t}
    z_t = torch.cat([latents[b.latent] for b in branches])
    text = TextCondition.cat([step.text_of(b.prompt) for b in branches])
    image = None
    if prior.takes_image and step.image is not None:
        none = torch.zeros_like(step.image)
        image = torch.cat([step.image if b.image == "source" else none for b in branches])
    eps = prior.predict_noise(z_t, step.t, text, image, freeu=freeu)
    return dict(zip(branches, eps.split(len(step.z))))


def as_velocity(combined: Tensor, coefficients: dict[Branch, float], step: Step) -> Tensor:
    """Σ a_b v_b from Σ a_b e_b, by v = (e − z_t)/α."""
    totals = {"target": 0.0, "source": 0.0}
    for branch, a in coefficients.items():
        totals[branch.latent] += a
    pull = totals["target"] * step.z_t + totals["source"] * step.z_src_t
    return (combined - pull) / step.schedule.alpha(step.t)


def check_form(form: str) -> str:
    """The name of a form; raises ValueError for another."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} is none of {', '.join(FORMS)}")
    return form


def inject_gradient(z: Tensor, grad: Tensor) -> Tensor:
    """The surrogate L = ½‖z − sg(z − G)‖²/B, whose gradient with respect to z is G/B."""
    return 0.5 * (z - (z - grad).detach()).pow(2).sum() / len(z)
