"""A noise predictor that is cheap, smooth and different for every prompt, and one step of an edit around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.testing import assert_close

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.guidance import Guidance, Step, encode_prompts

PROMPTS = ("target", "source", "null", "negative")
SHAPE = (2, 3, 4, 4)


class Stub(DiffusionPrior):
    """e(z_t, c) = tanh(a_c z_t + b_c + d_c shifted z_t), plus the image condition where there is one."""

    name, vae_scale_factor, resolution = "stub", 1, 4

    def __init__(self, *, takes_image: bool = False) -> None:
        self.schedule = NoiseSchedule.scaled_linear()
        self.takes_image = takes_image
        self.batches: list[int] = []

    def encode(self, rgb: Tensor) -> Tensor:
        return rgb.permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        return z.permute(0, 2, 3, 1)

    def encode_prompt(self, prompts: list[str]) -> TextCondition:
        index = [PROMPTS.index(prompt or "null") for prompt in prompts]
        return TextCondition(torch.tensor(index, dtype=torch.float64).reshape(-1, 1, 1))

    def predict_noise(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> Tensor:
        self.batches.append(len(z_t))
        c = text.hidden.reshape(-1, 1, 1, 1).to(z_t)
        x = (0.7 + 0.2 * c) * z_t + 0.3 * (c - 1.5) + 0.1 * c * z_t.roll(1, dims=-1) + t / 2000
        return torch.tanh(x if image is None else x + (0.5 + c) * image)


@dataclass
class Case:
    """One step: z, ẑ, ε and t with a prior; `g` evaluates a guidance, `e` a single branch."""

    prior: DiffusionPrior
    z: Tensor
    z_src: Tensor
    noise: Tensor
    text: dict[str, TextCondition]
    t: int = 501
    image: Tensor | None = None
    generator: torch.Generator | None = None

    @property
    def step(self) -> Step:
        schedule = self.prior.schedule
        return Step(self.z, self.z_src, self.noise, self.t, schedule, self.text, self.image, self.generator)

    @property
    def alpha(self) -> float:
        return self.prior.schedule.alpha(self.t)

    @property
    def sigma(self) -> float:
        return self.prior.schedule.sigma(self.t)

    @property
    def k(self) -> float:
        return self.alpha / self.sigma

    @property
    def t_norm(self) -> float:
        return (self.t - 1) / 1000

    @property
    def difference(self) -> Tensor:
        return self.z - self.z_src

    def reworded(self, **prompts: str) -> Case:
        """The same step where a prompt reads as another: reworded(source="null") leaves the source prompt empty."""
        return replace(self, text=self.text | {name: self.text[other] for name, other in prompts.items()})

    def g(self, guidance: Guidance) -> Tensor:
        return guidance(self.prior, self.step)

    def e(self, latent: str, prompt: str, image: str = "source") -> Tensor:
        clean = self.z if latent == "target" else self.z_src
        z_t = self.alpha * clean + self.sigma * self.noise
        condition = None
        if self.prior.takes_image:
            condition = self.image * (image == "source")
        return self.prior.predict_noise(z_t, self.t, self.text[prompt].expand(len(z_t)), condition)

    def cfg(self, latent: str, prompt: str, s: float) -> Tensor:
        null = self.e(latent, "null")
        return null + s * (self.e(latent, prompt) - null)

    def delta(self, latent: str, prompt: str) -> Tensor:
        return self.e(latent, prompt) - self.e(latent, "null")


def make_case(prior: DiffusionPrior, *, seed: int = 0, t: int = 501, same: bool = False) -> Case:
    generator = torch.Generator().manual_seed(seed)
    z, z_src, noise, image = torch.randn((4, *SHAPE), generator=generator, dtype=torch.float64)
    text = encode_prompts(prior, target="target", source="source", negative="negative")
    return Case(prior, z, z if same else z_src, noise, text, t, image if prior.takes_image else None)


def assert_zero(grad: Tensor) -> None:
    """Zero but for the rounding of float64."""
    assert_close(grad, torch.zeros_like(grad), atol=1e-12, rtol=0)


def assert_not_zero(grad: Tensor) -> None:
    assert float(grad.abs().max()) > 0.1
