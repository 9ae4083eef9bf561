"""The loop of an edit, for one image: score its latents, pull the gradient back, step. A generator, like the scene's.

The image is a LatentImage, the clean latents z themselves, or a PixelImage, whose z passes the encoder. With plain
gradient descent a latent image moves by Δz = −rate·G; the DDS authors' rate is LATENT_RATE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.diffusion.timesteps import TimestepSampler
from gs_ssd.errors import NonFiniteError
from gs_ssd.guidance import Guidance, Step, inject_gradient

# The DDS authors descend at 0.1 on 2000/(h·w)·Σ G·z, with latents of 64x64. At another size their loss would change the
# step of every element with the area; here it stays the one that they tuned.
LATENT_RATE = 0.1 * 2000 / 64**2


class LatentImage:
    """An image as clean latents z [1, C, h, w]."""

    def __init__(self, prior: DiffusionPrior, z: Tensor) -> None:
        self.prior, self.parameter = prior, Parameter(z.detach().clone())

    def latents(self) -> Tensor:
        return self.parameter

    def picture(self) -> Tensor:
        """[1, H, W, 3]."""
        return self.prior.decode(self.parameter.detach())

    def constrain(self) -> None:
        """Latents have no bounds."""


class PixelImage:
    """An image as pixels [1, H, W, 3], kept in [0, 1]."""

    def __init__(self, prior: DiffusionPrior, rgb: Tensor) -> None:
        self.prior, self.parameter = prior, Parameter(rgb.detach().clone())

    def latents(self) -> Tensor:
        return self.prior.encode(self.parameter)

    def picture(self) -> Tensor:
        """[1, H, W, 3]."""
        return self.parameter.detach().clone()

    def constrain(self) -> None:
        self.parameter.data.clamp_(0, 1)


@dataclass(frozen=True)
class ImageReport:
    """What one step did: its index, its timestep and the score loss ½‖G‖²."""

    step: int
    t: int
    loss: float


def distil(
    image: LatentImage | PixelImage,
    *,
    prior: DiffusionPrior,
    guidance: Guidance,
    text: dict[str, TextCondition],
    image_condition: Tensor | None = None,
    timesteps: TimestepSampler,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None = None,
    z_src: Tensor | None = None,
    num_steps: int,
    generator: torch.Generator,
) -> Iterator[ImageReport]:
    """Move `image` along the guidance and yield a report per step.

    Args:
        text, image_condition: as a guidance's Step takes them.
        optimizer: over `image.parameter`.
        scheduler: of the optimiser's rate, advanced once per step; None keeps it.
        z_src: latents of the source image; None where the guidance doesn't look at them.
        generator: draws timesteps and noise, on the CPU.

    Raises:
        NonFiniteError: names the step and timestep; the image is as it was before that step.
    """
    for step in range(num_steps):
        t = timesteps(step, num_steps, prior.schedule, generator)
        z = image.latents()
        noise = torch.randn(z.shape, generator=generator).to(z)
        start = z.detach() if z_src is None else z_src
        grad = guidance(
            prior, Step(z.detach(), start, noise, t, prior.schedule, text, image_condition, generator)
        )
        if not bool(torch.isfinite(grad).all()):
            raise NonFiniteError(f"the {guidance.name} gradient is not finite at step {step} (t = {t})")
        loss = inject_gradient(z, grad)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        image.constrain()
        yield ImageReport(step, t, loss.item())
